// Threads that share out the items of a loop. Which thread takes which item is left to chance, so
// an item may not depend on another and must write cells of its own: then the result has the same
// bits for any number of threads.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace ps {

class ThreadPool {
 public:
  explicit ThreadPool(int threads);  // 0 = as many as the machine has; the caller is one of them
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // body(item, worker) for item = 0 .. count-1; worker < threads(). Not from inside another run.
  template <class F>
  void run(std::int64_t count, F&& body) {
    using Callable = std::remove_reference_t<F>;
    run_job(count, {[](void* f, std::int64_t item, int worker) {
                      (*static_cast<Callable*>(f))(item, worker);
                    },
                    const_cast<void*>(static_cast<const void*>(&body))});
  }

 private:
  struct Job {
    void (*body)(void*, std::int64_t, int) = nullptr;
    void* context = nullptr;
  };
  void run_job(std::int64_t count, Job job);
  void work(int worker);
  void drain(const Job& job, std::int64_t count, int worker);

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<std::uint64_t> generation_{0};
  std::atomic<int> busy_{0};  // workers that have joined the job
  std::atomic<bool> stop_{false};
  std::atomic<std::int64_t> next_{0};
  bool open_ = false;  // a job may be joined; with count_ and job_, under mutex_
  std::int64_t count_ = 0;
  Job job_;
};

}  // namespace ps
