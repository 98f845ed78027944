// Launches a body over a grid: by the runner of a host (in order, permuted, checked), or on a CUDA
// stream. Launch arithmetic is checked here, against limits that are written down.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "core/result.h"
#include "core/rng.h"
#include "model/block/block.h"
#ifndef __CUDACC__
#include "model/block/checked_block.h"
#include "model/block/host_block.h"
#include "model/thread_pool.h"
#endif

namespace ps {

class ThreadPool;
struct CheckLog;

inline constexpr std::int64_t kMaxGrid = (std::int64_t{1} << 31) - 1;

// How and where a body runs. On the device only `stream`, `threads` and `error` count.
struct Launch {
  enum class Runner : std::uint8_t { kInOrder, kPermuted, kChecked };
  int threads = 64;  // a block; a multiple of the warp
  Runner runner = Runner::kInOrder;
  std::uint64_t seed = 1;      // kPermuted
  CheckLog* log = nullptr;     // kChecked
  ThreadPool* pool = nullptr;  // kInOrder; null = the calling thread
  void* stream = nullptr;      // cudaStream_t
  int error = 0;               // cudaError_t of the launch
};

inline void check_launch(std::int64_t grid, int threads) {
  PS_CHECK(grid >= 0 && grid <= kMaxGrid, "a grid of " + std::to_string(grid) + " blocks");
  PS_CHECK(threads >= kWarp && threads <= kMaxThreads && threads % kWarp == 0,
           "a block of " + std::to_string(threads) + " threads");
}

#ifdef __CUDACC__
namespace cuda {

template <class Body>
__global__ void __launch_bounds__(kMaxThreads, 1) run_body(const Body body) {
  __shared__ alignas(16) unsigned char arena[kSharedBytes];
  DeviceBlock block(arena);
  body(block);
}

template <class Body>
void launch_body(const Body& body, std::int64_t grid, Launch& launch) {
  check_launch(grid, launch.threads);
  if (grid == 0) return;
  run_body<<<static_cast<unsigned>(grid), static_cast<unsigned>(launch.threads), 0,
             static_cast<cudaStream_t>(launch.stream)>>>(body);
  launch.error = static_cast<int>(cudaGetLastError());
}

}  // namespace cuda
#else
namespace cpu {

// Blocks to one item of the pool: few enough items that taking one costs nothing.
inline std::int64_t blocks_per_item(std::int64_t grid) {
  return std::max<std::int64_t>(1, grid / 64);
}

template <class T>
std::vector<T> shuffled(T count, const Rng& rng) {
  std::vector<T> order(static_cast<std::size_t>(count));
  std::iota(order.begin(), order.end(), T{0});
  for (std::size_t i = order.size(); i > 1; --i) {
    std::swap(order[i - 1],
              order[static_cast<std::size_t>(rng.below(i, static_cast<std::int64_t>(i)))]);
  }
  return order;
}

template <class Body>
void launch_body(const Body& body, std::int64_t grid, Launch& launch, LaunchShadow* shadow) {
  check_launch(grid, launch.threads);
  switch (launch.runner) {
    case Launch::Runner::kInOrder: {
      const std::int64_t step = blocks_per_item(grid);
      const auto run_item = [&](std::int64_t item, int) {
        thread_local HostScratch scratch;
        const std::int64_t end = std::min(grid, (item + 1) * step);
        for (std::int64_t index = item * step; index < end; ++index) {
          HostBlock block(index, launch.threads, scratch, {});
          body(block);
        }
      };
      const std::int64_t items = (grid + step - 1) / step;
      if (launch.pool != nullptr) {
        launch.pool->run(items, run_item);
      } else {
        for (std::int64_t item = 0; item < items; ++item) run_item(item, 0);
      }
      break;
    }
    case Launch::Runner::kPermuted: {
      HostScratch scratch;
      const std::vector<int> threads = shuffled(launch.threads, Rng(launch.seed, 1));
      for (const std::int64_t index : shuffled(grid, Rng(launch.seed, 2))) {
        HostBlock block(index, launch.threads, scratch, threads);
        body(block);
      }
      break;
    }
    case Launch::Runner::kChecked:
      for (std::int64_t index = 0; index < grid; ++index) {
        CheckedBlock block(index, launch.threads, *shadow, *launch.log);
        body(block);
      }
      break;
  }
}

}  // namespace cpu
#endif

}  // namespace ps
