#include "core/parallel.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

namespace ps {

int thread_count(int wanted) {
  if (wanted > 0) return wanted;
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

void parallel_for(std::int64_t pieces, int threads, const std::function<void(std::int64_t)>& work) {
  const std::int64_t helpers = std::min<std::int64_t>(thread_count(threads), pieces) - 1;
  std::atomic<std::int64_t> next = 0;
  const auto run = [&] {
    for (std::int64_t i = next++; i < pieces; i = next++) work(i);
  };
  std::vector<std::jthread> others;
  for (std::int64_t i = 0; i < helpers; ++i) others.emplace_back(run);
  run();
}

}  // namespace ps
