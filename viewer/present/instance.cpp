#include "viewer/present/instance.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <string_view>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>
#include <utility>

namespace ps::viewer {

namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMostBytes = 1 << 20;

// A folder that only this user can look into.
bool is_private(const fs::path& dir) {
  struct stat s{};
  return ::lstat(dir.c_str(), &s) == 0 && S_ISDIR(s.st_mode) && s.st_uid == ::getuid() &&
         (s.st_mode & 0077) == 0;
}

bool address_of(const fs::path& path, sockaddr_un& address) {
  const std::string text = path.string();
  address = {};
  address.sun_family = AF_UNIX;
  if (text.empty() || text.size() >= sizeof address.sun_path) return false;
  std::memcpy(address.sun_path, text.c_str(), text.size() + 1);
  return true;
}

int connected(const fs::path& path) {
  sockaddr_un address;
  if (!address_of(path, address)) return -1;
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return fd;
  ::close(fd);
  return -1;
}

void give_up_after(int fd, int seconds) {
  const timeval time{seconds, 0};
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
  ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time);
}

bool sent(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::send(fd, text.data(), text.size(), MSG_NOSIGNAL);
    if (n <= 0) return false;
    text.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

// Until the other side has said everything; nothing where it breaks off or says too much.
std::optional<std::string> received(int fd) {
  std::string out;
  std::array<char, 4096> part{};
  while (true) {
    const ssize_t n = ::recv(fd, part.data(), part.size(), 0);
    if (n == 0) return out;
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 || out.size() + static_cast<std::size_t>(n) > kMostBytes) return std::nullopt;
    out.append(part.data(), static_cast<std::size_t>(n));
  }
}

}  // namespace

fs::path instance_socket() {
  const char* display = std::getenv("DISPLAY");
  if (display == nullptr || *display == '\0') display = std::getenv("WAYLAND_DISPLAY");
  std::string name = "parscope-viewer-" + std::string(display == nullptr ? "none" : display);
  for (char& c : name) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '.';
    if (!plain) c = '_';
  }
  if (const char* dir = std::getenv("XDG_RUNTIME_DIR"); dir != nullptr && is_private(dir))
    return fs::path(dir) / name;
  const fs::path own = "/tmp/parscope-" + std::to_string(::getuid());
  ::mkdir(own.c_str(), 0700);
  return is_private(own) ? own / name : fs::path();
}

std::optional<Result<void>> tell_instance(const fs::path& socket,
                                          const std::vector<std::string>& lines) {
  const int fd = connected(socket);
  if (fd < 0) return std::nullopt;
  constexpr int kPatience = 30;  // seconds: it may be reading a large file
  give_up_after(fd, kPatience);
  std::string text;
  for (std::string line : lines) {
    for (char& c : line) c = c == '\n' ? ' ' : c;
    text += line + "\n";
  }
  const bool said = sent(fd, text) && ::shutdown(fd, SHUT_WR) == 0;
  const std::optional<std::string> answer = said ? received(fd) : std::nullopt;
  ::close(fd);
  if (!answer || answer->empty())
    return Result<void>(machine_error("parscope view", "the viewer that runs does not answer"));
  if (*answer == "ok") return Result<void>();
  return Result<void>(bad_input("the viewer that runs", *answer));
}

Instance::Instance(const fs::path& socket, std::function<void()> wake)
    : socket_(socket), wake_(std::move(wake)) {
  sockaddr_un address;
  if (!address_of(socket, address)) return;
  if (const int other = connected(socket); other >= 0) {
    ::close(other);
    return;
  }
  ::unlink(socket.c_str());  // of a viewer that is gone
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return;
  constexpr int kBacklog = 8;
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(fd, kBacklog) != 0 || ::pipe2(stop_pipe_, O_CLOEXEC) != 0) {
    ::close(fd);
    return;
  }
  listener_ = fd;
  thread_ = std::jthread([this](const std::stop_token& stop) { listen(stop); });
}

Instance::~Instance() {
  if (listener_ < 0) return;
  thread_.request_stop();
  (void)!::write(stop_pipe_[1], "x", 1);
  thread_.join();
  ::unlink(socket_.c_str());
  for (const int fd : {listener_, stop_pipe_[0], stop_pipe_[1]}) ::close(fd);
  for (const Request& request : waiting_) ::close(request.connection);
}

void Instance::listen(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    std::array<pollfd, 2> wanted = {{{listener_, POLLIN, 0}, {stop_pipe_[0], POLLIN, 0}}};
    if (::poll(wanted.data(), wanted.size(), -1) < 0 && errno != EINTR) return;
    if (stop.stop_requested() || (wanted[1].revents & POLLIN) != 0) return;
    if ((wanted[0].revents & POLLIN) == 0) continue;
    const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) continue;
    give_up_after(fd, 2);
    const std::optional<std::string> text = received(fd);
    if (!text) {
      ::close(fd);
      continue;
    }
    Request request{{}, fd};
    for (std::size_t at = 0; at < text->size();) {
      const std::size_t end = std::min(text->find('\n', at), text->size());
      if (end > at) request.lines.push_back(text->substr(at, end - at));
      at = end + 1;
    }
    {
      const std::scoped_lock lock(mutex_);
      waiting_.push_back(std::move(request));
    }
    wake_();
  }
}

bool Instance::answer(const std::function<Result<void>(const std::vector<std::string>&)>& run) {
  std::deque<Request> all;
  {
    const std::scoped_lock lock(mutex_);
    all.swap(waiting_);
  }
  for (const Request& request : all) {
    const Result<void> done = run(request.lines);
    (void)sent(request.connection, done.ok() ? "ok" : done.error().line());
    ::close(request.connection);
  }
  return !all.empty();
}

}  // namespace ps::viewer
