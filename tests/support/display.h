// A display for real windows that nobody sees (Xvfb).
#pragma once

#include <csignal>
#include <fcntl.h>
#include <filesystem>
#include <string>
#include <sys/wait.h>
#include <unistd.h>

namespace ps {

// A display of its own, gone with the object.
class VirtualDisplay {
 public:
  VirtualDisplay() {
    if (!std::filesystem::exists("/usr/bin/Xvfb")) return;
    int ends[2];
    if (::pipe(ends) != 0) return;
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(ends[1], 9);
      ::close(ends[0]);
      const int null = ::open("/dev/null", O_RDWR);
      ::dup2(null, STDOUT_FILENO);
      ::dup2(null, STDERR_FILENO);
      ::execl("/usr/bin/Xvfb", "Xvfb", "-displayfd", "9", "-screen", "0", "2600x1800x24",
              "-nolisten", "tcp", nullptr);
      ::_exit(127);
    }
    ::close(ends[1]);
    std::string number;
    for (char c = 0; ::read(ends[0], &c, 1) == 1 && c != '\n';) number += c;
    ::close(ends[0]);
    if (!number.empty()) name_ = ":" + number;
  }
  VirtualDisplay(const VirtualDisplay&) = delete;
  VirtualDisplay& operator=(const VirtualDisplay&) = delete;
  ~VirtualDisplay() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGTERM);
    ::waitpid(pid_, nullptr, 0);
  }
  const std::string& name() const { return name_; }  // empty: there is no Xvfb here

 private:
  pid_t pid_ = -1;
  std::string name_;
};

}  // namespace ps
