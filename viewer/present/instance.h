// One viewer of a user on a display: another `parscope view` can hand its link or files to the one
// that runs, over a socket that only this user can open.
#pragma once

#include <deque>
#include <filesystem>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "core/result.h"

namespace ps::viewer {

// Below $XDG_RUNTIME_DIR, else in a folder of the user's in /tmp. Empty where neither is to be had.
std::filesystem::path instance_socket();

// Command lines for the viewer that runs; nothing where none does. Error: what it answered.
std::optional<Result<void>> tell_instance(const std::filesystem::path& socket,
                                          const std::vector<std::string>& lines);

// Listens while it lives. It does not replace a viewer that listens already.
class Instance {
 public:
  // `wake` is called on the listener's thread when there is something to answer.
  Instance(const std::filesystem::path& socket, std::function<void()> wake);
  ~Instance();
  Instance(const Instance&) = delete;
  Instance& operator=(const Instance&) = delete;

  bool listens() const { return listener_ >= 0; }
  // On the UI thread: runs what has come, one call of `run` a request. True when there was any.
  bool answer(const std::function<Result<void>(const std::vector<std::string>&)>& run);

 private:
  struct Request {
    std::vector<std::string> lines;
    int connection = -1;
  };
  void listen(const std::stop_token& stop);

  std::filesystem::path socket_;
  std::function<void()> wake_;
  int listener_ = -1, stop_pipe_[2] = {-1, -1};
  std::mutex mutex_;
  std::deque<Request> waiting_;
  std::jthread thread_;
};

}  // namespace ps::viewer
