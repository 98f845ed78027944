#include "viewer/app/jobs.h"

#include <algorithm>

namespace ps::viewer {

Jobs::Jobs() : thread_([this](const std::stop_token& stop) { loop(stop); }) {}

Jobs::~Jobs() {
  thread_.request_stop();
  wake_.notify_all();
}

void Jobs::run(std::string key, std::string label, Work work) {
  {
    const std::scoped_lock lock(mutex_);
    std::erase_if(waiting_, [&](const Job& job) { return job.key == key; });
    waiting_.push_back({std::move(key), std::move(label), std::move(work)});
  }
  wake_.notify_one();
}

void Jobs::loop(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (wake_.wait(lock, stop, [this] { return !waiting_.empty(); })) {
    Job job = std::move(waiting_.front());
    waiting_.pop_front();
    busy_ = true;
    running_ = job.label;
    lock.unlock();
    Done done = job.work(stop);
    job.work = nullptr;  // what it holds goes before anybody is told
    lock.lock();
    if (done) done_.push_back(std::move(done));
    busy_ = false;
    running_.clear();
    idle_.notify_all();
    const std::function<void()> wake = on_done_;
    if (wake && !stop.stop_requested()) {
      lock.unlock();
      wake();
      lock.lock();
    }
    if (stop.stop_requested()) return;
  }
}

bool Jobs::poll() {
  std::deque<Done> ready;
  {
    const std::scoped_lock lock(mutex_);
    ready.swap(done_);
  }
  for (const Done& done : ready) done();
  return !ready.empty();
}

void Jobs::wait_all() {
  while (true) {
    {
      std::unique_lock lock(mutex_);
      idle_.wait(lock, [this] { return !busy_ && waiting_.empty(); });
    }
    if (!poll()) {
      const std::scoped_lock lock(mutex_);
      if (!busy_ && waiting_.empty() && done_.empty()) return;
    }
  }
}

std::string Jobs::label() const {
  const std::scoped_lock lock(mutex_);
  if (busy_) return running_;
  return waiting_.empty() ? "" : waiting_.front().label;
}

void Jobs::on_done(std::function<void()> wake) {
  const std::scoped_lock lock(mutex_);
  on_done_ = std::move(wake);
}

}  // namespace ps::viewer
