#include "diff/ranks/launch.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <netinet/in.h>
#include <optional>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/temp_file.h"

namespace ps {

namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kLastGrace{3000};  // between SIGTERM and SIGKILL
constexpr int kMachine = 3;

struct Descriptor {
  int fd = -1;
  explicit Descriptor(int opened = -1) : fd(opened) {}
  Descriptor(Descriptor&& other) noexcept : fd(other.fd) { other.fd = -1; }
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd, other.fd);
    return *this;
  }
  ~Descriptor() { close(); }
  void close() {
    if (fd >= 0) ::close(fd);
    fd = -1;
  }
};

// A port that nobody else is given while this is bound; rank 0 can listen there all the same.
struct Reserved {
  Descriptor socket;
  std::uint16_t port = 0;
};
Result<Reserved> reserve_port() {
  Reserved out{Descriptor(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), 0};
  const int on = 1;
  ::setsockopt(out.socket.fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  socklen_t length = sizeof address;
  auto* plain = reinterpret_cast<sockaddr*>(&address);
  if (out.socket.fd < 0 || ::bind(out.socket.fd, plain, length) != 0 ||
      ::getsockname(out.socket.fd, plain, &length) != 0) {
    return machine_error("parscope launch", "no free port", "", errno_text(errno));
  }
  out.port = ntohs(address.sin_port);
  return Result<Reserved>(std::move(out));
}

// What a rank writes, line by line.
class Lines {
 public:
  Lines(Descriptor from, std::int64_t rank) : from_(std::move(from)), rank_(rank) {}
  int fd() const { return from_.fd; }
  void read() {
    std::array<char, 4096> part;
    const ssize_t n = ::read(from_.fd, part.data(), part.size());
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) return;
    if (n > 0) rest_.append(part.data(), static_cast<std::size_t>(n));
    if (n <= 0 && !rest_.empty()) rest_ += '\n';
    if (n <= 0) from_.close();
    for (std::size_t end = rest_.find('\n'); end != std::string::npos; end = rest_.find('\n')) {
      std::fprintf(stderr, "[rank %lld] %s\n", static_cast<long long>(rank_),
                   rest_.substr(0, end).c_str());
      rest_.erase(0, end + 1);
    }
  }

 private:
  Descriptor from_;
  std::int64_t rank_;
  std::string rest_;
};

struct Child {
  pid_t pid = -1;
  std::optional<int> code;
};

void set_variables(std::int64_t rank, std::int64_t ranks, std::uint16_t port) {
  const auto set = [](const char* name, const std::string& value) {
    ::setenv(name, value.c_str(), 1);
  };
  set("RANK", std::to_string(rank));
  set("WORLD_SIZE", std::to_string(ranks));
  set("LOCAL_RANK", std::to_string(rank));
  set("MASTER_ADDR", "127.0.0.1");
  set("MASTER_PORT", std::to_string(port));
  // Of a launcher around this one: they would say otherwise.
  for (const char* other :
       {"LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_USE_AGENT_STORE"}) {
    ::unsetenv(other);
  }
}

class Launch {
 public:
  explicit Launch(const LaunchOptions& options) : options_(options) {}

  Result<int> run() {
    sigset_t watched;
    ::sigemptyset(&watched);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGCHLD}) ::sigaddset(&watched, signal);
    sigset_t before;
    ::sigprocmask(SIG_BLOCK, &watched, &before);
    signals_ = Descriptor(::signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK));
    const Result<int> code = start_and_wait(before);
    for (const Child& child : children_) {
      if (!child.code) ::kill(child.pid, SIGKILL);
    }
    ::sigprocmask(SIG_SETMASK, &before, nullptr);
    return code;
  }

 private:
  Result<int> start_and_wait(const sigset_t& mask) {
    PS_TRY(const Reserved port, reserve_port());
    for (std::int64_t r = 0; r < options_.ranks; ++r) {
      PS_TRY_VOID(start(r, port.port, mask));
    }
    while (running() > 0 || open_lines() > 0) step();
    int worst = 0;
    for (const Child& child : children_) worst = std::max(worst, child.code.value_or(kMachine));
    return worst;
  }

  Result<void> start(std::int64_t rank, std::uint16_t port, const sigset_t& mask) {
    int out[2] = {-1, -1}, err[2] = {-1, -1};
    if (::pipe2(err, O_CLOEXEC) != 0 || (rank > 0 && ::pipe2(out, O_CLOEXEC) != 0)) {
      return machine_error("parscope launch", "no pipe", "", errno_text(errno));
    }
    const pid_t parent = ::getpid();
    const pid_t pid = ::fork();
    if (pid < 0) return machine_error("parscope launch", "no process", "", errno_text(errno));
    if (pid == 0) {
      // No rank outlives the launcher, not even one that is killed.
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (::getppid() != parent) ::_exit(kMachine);
      ::sigprocmask(SIG_SETMASK, &mask, nullptr);
      set_variables(rank, options_.ranks, port);
      if (rank > 0) ::dup2(out[1], STDOUT_FILENO);
      ::dup2(err[1], STDERR_FILENO);
      std::vector<char*> words;
      for (const std::string& word : options_.words)
        words.push_back(const_cast<char*>(word.c_str()));
      words.push_back(nullptr);
      ::execvp(words[0], words.data());
      std::fprintf(stderr, "parscope launch: %s: cannot be run: %s\n", words[0],
                   std::strerror(errno));
      ::_exit(2);
    }
    children_.push_back({pid, std::nullopt});
    for (int* pipe : {err, out}) {
      if (pipe[0] < 0) continue;
      ::close(pipe[1]);
      lines_.emplace_back(Descriptor(pipe[0]), rank);
    }
    return {};
  }

  std::int64_t running() const {
    return std::count_if(children_.begin(), children_.end(),
                         [](const Child& c) { return !c.code; });
  }
  // A program that a rank left behind may hold its streams: only the ranks are waited for.
  std::int64_t open_lines() {
    if (running() == 0 && !drained_until_) drained_until_ = Clock::now() + std::chrono::seconds(1);
    if (drained_until_ && Clock::now() > *drained_until_) return 0;
    return std::count_if(lines_.begin(), lines_.end(), [](const Lines& l) { return l.fd() >= 0; });
  }

  void step() {
    std::vector<pollfd> fds{{signals_.fd, POLLIN, 0}};
    for (const Lines& lines : lines_) fds.push_back({lines.fd(), POLLIN, 0});
    constexpr int kTick = 100;
    ::poll(fds.data(), fds.size(), kTick);
    for (std::size_t i = 0; i < lines_.size(); ++i) {
      if (fds[i + 1].revents != 0) lines_[i].read();
    }
    if (fds[0].revents != 0) take_signals();
    take_exits();
    end_the_rest();
  }

  void take_signals() {
    signalfd_siginfo info{};
    while (::read(signals_.fd, &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
      const auto signal = static_cast<int>(info.ssi_signo);
      // A terminal sends its signals to the ranks as well.
      const bool from_a_program = info.ssi_code <= 0;
      if (signal == SIGCHLD) continue;
      if (from_a_program) send(signal);
      if (!deadline_) deadline_ = Clock::now() + options_.grace;
    }
  }

  void send(int signal) {
    for (const Child& child : children_) {
      if (!child.code) ::kill(child.pid, signal);
    }
  }

  void take_exits() {
    for (std::size_t r = 0; r < children_.size(); ++r) {
      Child& child = children_[r];
      int status = 0;
      if (child.code || ::waitpid(child.pid, &status, WNOHANG) != child.pid) continue;
      child.code = WIFEXITED(status) ? WEXITSTATUS(status) : kMachine;
      if (WIFSIGNALED(status)) {
        std::fprintf(stderr, "parscope launch: rank %zu was ended by signal %d (%s)\n", r,
                     WTERMSIG(status), ::strsignal(WTERMSIG(status)));
      }
      if (*child.code != 0 && !deadline_) deadline_ = Clock::now() + options_.grace;
    }
  }

  void end_the_rest() {
    if (!deadline_ || running() == 0 || Clock::now() < *deadline_) return;
    if (terms_ == 0) {
      std::fprintf(stderr, "parscope launch: %lld ranks still run, and are ended\n",
                   static_cast<long long>(running()));
    }
    send(terms_++ == 0 ? SIGTERM : SIGKILL);
    deadline_ = Clock::now() + kLastGrace;
  }

  const LaunchOptions& options_;
  Descriptor signals_;
  std::vector<Child> children_;
  std::vector<Lines> lines_;
  std::optional<Clock::time_point> deadline_, drained_until_;
  int terms_ = 0;
};

}  // namespace

Result<int> launch(const LaunchOptions& options) { return Launch(options).run(); }

}  // namespace ps
