#include "model/thread_pool.h"

#include <algorithm>

namespace ps {
namespace {

// A decode step is hundreds of short loops: a worker looks for the next one for a moment before it
// sleeps, since waking it costs more than most of them.
constexpr int kSpins = 3000;

void pause_briefly() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

}  // namespace

ThreadPool::ThreadPool(int threads) {
  const int machine = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  const int wanted = threads > 0 ? threads : machine;
  for (int w = 1; w < wanted; ++w) workers_.emplace_back([this, w] { work(w); });
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run_job(std::int64_t count, Job job) {
  if (workers_.empty() || count <= 1) {
    for (std::int64_t i = 0; i < count; ++i) job.body(job.context, i, 0);
    return;
  }
  {
    const std::lock_guard lock(mutex_);
    job_ = job;
    count_ = count;
    next_ = 0;
    open_ = true;
    generation_.fetch_add(1);
  }
  wake_.notify_all();
  drain(job, count, 0);
  {
    const std::lock_guard lock(mutex_);
    open_ = false;  // who wakes up only now has missed it, and nobody waits for them
  }
  for (int spin = 0; busy_.load() != 0; ++spin) {
    if (spin < kSpins) {
      pause_briefly();
    } else {
      std::this_thread::yield();
    }
  }
}

void ThreadPool::drain(const Job& job, std::int64_t count, int worker) {
  for (std::int64_t i = next_.fetch_add(1); i < count; i = next_.fetch_add(1)) {
    job.body(job.context, i, worker);
  }
}

void ThreadPool::work(int worker) {
  std::uint64_t seen = 0;
  while (true) {
    for (int spin = 0; spin < kSpins && generation_.load() == seen && !stop_.load(); ++spin) {
      pause_briefly();
    }
    Job job;
    std::int64_t count = 0;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return stop_.load() || generation_.load() != seen; });
      if (stop_.load()) return;
      seen = generation_.load();
      if (!open_) continue;
      job = job_;
      count = count_;
      busy_.fetch_add(1);
    }
    drain(job, count, worker);
    busy_.fetch_sub(1);
  }
}

}  // namespace ps
