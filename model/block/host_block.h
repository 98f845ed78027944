// Runs a body on a host: each phase is a loop over the block's threads, in order or in an order
// that a test has shuffled. Every order must give the same bits; where it does not, a barrier is
// missing.
#pragma once

#include <cstring>
#include <memory>
#include <span>
#include <type_traits>
#include <vector>

#include "core/result.h"
#include "model/block/block.h"

namespace ps {

// Registers and shared memory of the block that a worker runs, reused from block to block.
class HostScratch {
 public:
  HostScratch() : bytes_(std::make_unique<std::byte[]>(kBytes)) {}
  void reset() { used_ = 0; }
  std::byte* take(std::size_t bytes) {
    const std::size_t at = used_;
    used_ += (bytes + 63) / 64 * 64;
    PS_CHECK(used_ <= kBytes, "a body asks for too many registers");
    return bytes_.get() + at;
  }

 private:
  static constexpr std::size_t kBytes = std::size_t{1} << 18;
  std::unique_ptr<std::byte[]> bytes_;
  std::size_t used_ = 0;
};

class HostBlock {
 public:
  template <class T>
  struct Registers {
    static_assert(std::is_trivially_copyable_v<T>);
    T* cells;
    explicit Registers(HostBlock& block)
        : cells(reinterpret_cast<T*>(
              block.scratch_.take(sizeof(T) * static_cast<std::size_t>(block.threads_)))) {
      for (int t = 0; t < block.threads_; ++t) cells[t] = T{};
    }
    T& at(int t) { return cells[t]; }
  };

  // `order`: a permutation of the threads, or empty for 0, 1, 2, ...
  HostBlock(std::int64_t index, int threads, HostScratch& scratch, std::span<const int> order)
      : index_(index), threads_(threads), scratch_(scratch), order_(order) {
    scratch_.reset();
  }
  int threads() const { return threads_; }
  std::int64_t index() const { return index_; }

  template <class F>
  void phase(F&& f) {
    if (order_.empty()) {
      for (int t = 0; t < threads_; ++t) f(Thread(t));
    } else {
      for (const int t : order_) f(Thread(t));
    }
  }
  // In order, items run 0, 1, 2, ...: threads interleave, which is one of the orders a barrier-free
  // phase allows, and memory is walked straight.
  template <class F>
  void each(std::int64_t count, F&& f) {
    if (order_.empty()) {
      std::int64_t base = 0;
      for (; base + threads_ <= count; base += threads_) {
        for (int t = 0; t < threads_; ++t) f(Thread(t), base + t);
      }
      for (int t = 0; base + t < count; ++t) f(Thread(t), base + t);
    } else {
      for (const int t : order_) {
        for (std::int64_t i = t; i < count; i += threads_) f(Thread(t), i);
      }
    }
  }
  template <class T>
  T* shared(int count) {
    const std::size_t bytes = sizeof(T) * static_cast<std::size_t>(count);
    shared_used_ += (bytes + 15) / 16 * 16;
    PS_CHECK(shared_used_ <= kSharedBytes, "a body asks for more than kSharedBytes");
    std::byte* cells = scratch_.take(bytes);
    if (!order_.empty()) std::memset(cells, 0xff, bytes);  // all ones is a NaN: stale reads show
    return reinterpret_cast<T*>(cells);
  }
  template <class T, class Op>
  void warp_reduce(PerThread<HostBlock, T>& part, Op op) {
    T* cells = part.cells_.cells;
    for (int warp = 0; warp < threads_; warp += kWarp) {
      T next[kWarp];
      for (int d = kWarp / 2; d > 0; d /= 2) {
        for (int t = 0; t < kWarp; ++t) next[t] = op(cells[warp + t], cells[warp + (t ^ d)]);
        std::memcpy(cells + warp, next, sizeof next);
      }
    }
  }
  // The value that every thread holds.
  template <class T>
  T uniform(PerThread<HostBlock, T>& part) {
    const T* cells = part.cells_.cells;
    if (!order_.empty()) {
      for (int t = 1; t < threads_; ++t) {
        PS_CHECK(std::memcmp(&cells[t], &cells[0], sizeof(T)) == 0,
                 "threads disagree in uniform()");
      }
    }
    return cells[0];
  }
  template <class T, int N, class... Index>
  auto load(const Global<T, N>& from, Index... index) const {
    return widen(*GlobalAccess::cell(from, index...));
  }
  template <class T, int N, class Value, class... Index>
  void store(const Global<T, N>& to, Value value, Index... index) const {
    *GlobalAccess::cell(to, index...) = Narrow<T>::from(value);
  }

 private:
  std::int64_t index_;
  int threads_;
  HostScratch& scratch_;
  std::span<const int> order_;
  std::size_t shared_used_ = 0;
};

}  // namespace ps
