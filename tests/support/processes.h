// Programs that run beside the test: started, watched with a time limit, killed.
#pragma once

#include <chrono>
#include <csignal>
#include <netinet/in.h>
#include <string>
#include <sys/socket.h>
#include <thread>
#include <vector>

#include "tests/support/program.h"

namespace ps {

// A port that nobody else is given while this lives; a program can listen there all the same.
class FreePort {
 public:
  FreePort() {
    fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int on = 1;
    ::setsockopt(fd_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    socklen_t length = sizeof address;
    auto* plain = reinterpret_cast<sockaddr*>(&address);
    if (::bind(fd_, plain, length) == 0 && ::getsockname(fd_, plain, &length) == 0) {
      number_ = ntohs(address.sin_port);
    }
  }
  FreePort(const FreePort&) = delete;
  FreePort& operator=(const FreePort&) = delete;
  ~FreePort() { ::close(fd_); }
  int number() const { return number_; }
  std::string text() const { return std::to_string(number_); }
  bool listen() { return ::listen(fd_, 8) == 0; }  // and is taken from then on

 private:
  int fd_ = -1;
  int number_ = 0;
};

class Process {
 public:
  Process(std::vector<std::string> words, const std::vector<std::string>& environment)
      : pid_(spawn_program(std::move(words), environment, streams_)) {}
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  ~Process() {
    if (!ended_ && pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
  }

  void signal(int number) const { ::kill(pid_, number); }
  pid_t pid() const { return pid_; }
  // Waits; code -1 where it still runs after the limit.
  Ran wait(std::chrono::seconds limit) {
    const auto until = std::chrono::steady_clock::now() + limit;
    Ran ran;
    while (pid_ > 0 && !ended_ && std::chrono::steady_clock::now() < until) {
      int status = 0;
      if (::waitpid(pid_, &status, WNOHANG) == pid_) {
        ended_ = true;
        code_ = exit_code_of(status);
      } else {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      }
    }
    ran.code = ended_ ? code_ : -1;
    ran.out = get_file(streams_ / "out");
    ran.err = get_file(streams_ / "err");
    return ran;
  }
  std::string err() const { return get_file(streams_ / "err"); }

 private:
  TempDir streams_;
  pid_t pid_ = -1;
  bool ended_ = false;
  int code_ = -1;
};

template <class Condition>
bool comes_true(const Condition& condition, std::chrono::seconds limit) {
  const auto until = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return true;
}

inline bool has_gloo() { return std::filesystem::exists(binary_dir() + "/libparscope_gloo.so"); }
#define PS_NEEDS_GLOO() \
  if (!has_gloo()) GTEST_SKIP() << "built without Gloo (libgloo-dev)"

}  // namespace ps
