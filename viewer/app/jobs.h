// Work off the UI thread: one worker, jobs in order. A job computes on the worker and hands back a
// function that the UI thread runs, so nothing that panels read is ever changed beside them.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>

namespace ps::viewer {

class Jobs {
 public:
  using Done = std::function<void()>;                 // on the UI thread
  using Work = std::function<Done(std::stop_token)>;  // on the worker; may look whether to stop

  Jobs();
  ~Jobs();
  Jobs(const Jobs&) = delete;
  Jobs& operator=(const Jobs&) = delete;

  // A job of the same key that has not begun is replaced: only the last wish counts.
  void run(std::string key, std::string label, Work work);
  // Runs what is done. True when there was something, so that a new frame is worth drawing.
  bool poll();
  void wait_all();            // until nothing is left, polling; for pictures and tests
  std::string label() const;  // of what runs now; empty when idle
  // Called on the worker when something is done: wakes a window that waits for events.
  void on_done(std::function<void()> wake);

 private:
  struct Job {
    std::string key, label;
    Work work;
  };
  void loop(const std::stop_token& stop);

  mutable std::mutex mutex_;
  std::condition_variable_any wake_;
  std::condition_variable idle_;
  std::deque<Job> waiting_;
  std::deque<Done> done_;
  std::string running_;
  bool busy_ = false;
  std::function<void()> on_done_;
  std::jthread thread_;  // last: it uses what stands above
};

}  // namespace ps::viewer
