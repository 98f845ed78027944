// One kernel body, two machines. A body is a list of phases. In a phase every thread runs alone;
// between phases stands a barrier. The device runs "barrier if something came before, then my
// thread"; a host runs a loop over the threads, in an order that the test picks.
//
// A body sees: block.index() [which block of the grid], block.threads(), block.phase(f(Thread)),
// block.each(count, f(Thread, i)) [item i belongs to thread i % threads], block.shared<T>(n),
// PerThread<Block, T> [a register], block.warp_reduce, block.uniform, block.load, block.store.
// Code between phases runs once a block on a host and once a thread on the device: keep it to const
// arithmetic on indices and arguments.
#pragma once

#include <cstddef>
#include <cstdint>

#include "model/block/global.h"

namespace ps {

inline constexpr int kWarp = 32;
inline constexpr int kMaxThreads = 256;
inline constexpr std::size_t kSharedBytes = 1024;  // all that one block may ask for

// A thread of the block. Only a block makes one, so a body cannot name another thread and read its
// registers: that would work on the host and not on the device.
class Thread {
 public:
  PS_HD int id() const { return id_; }
  PS_HD int lane() const { return id_ % kWarp; }
  PS_HD int warp() const { return id_ / kWarp; }

 private:
  friend class DeviceBlock;
  friend class HostBlock;
  friend class CheckedBlock;
  PS_HD explicit Thread(int id) : id_(id) {}
  int id_;
};

// A register of each thread: part[t]. part[0] does not compile.
template <class Block, class T>
class PerThread {
 public:
  PS_HD explicit PerThread(Block& block) : cells_(block) {}
  PS_HD T& operator[](Thread t) { return cells_.at(t.id()); }

 private:
  friend Block;
  typename Block::template Registers<T> cells_;
};

#ifdef __CUDACC__
class DeviceBlock {
 public:
  template <class T>
  struct Registers {
    T value{};
    __device__ explicit Registers(DeviceBlock&) {}
    __device__ T& at(int) { return value; }
  };

  __device__ explicit DeviceBlock(unsigned char* arena) : arena_(arena) {}
  __device__ int threads() const { return static_cast<int>(blockDim.x); }
  __device__ std::int64_t index() const { return blockIdx.x; }

  template <class F>
  __device__ void phase(F&& f) {
    if (dirty_) __syncthreads();  // on entry, not on exit: the last phase needs none
    dirty_ = true;
    f(Thread(static_cast<int>(threadIdx.x)));
  }
  template <class F>
  __device__ void each(std::int64_t count, F&& f) {
    phase([&](Thread t) {
      for (std::int64_t i = t.id(); i < count; i += threads()) f(t, i);
    });
  }
  template <class T>
  __device__ T* shared(int count) {
    T* cells = reinterpret_cast<T*>(arena_ + used_);
    used_ += (sizeof(T) * static_cast<std::size_t>(count) + 15) / 16 * 16;
    return cells;
  }
  // A butterfly over each warp; the host runners add in the same order.
  template <class T, class Op>
  __device__ void warp_reduce(PerThread<DeviceBlock, T>& part, Op op) {
    for (int d = kWarp / 2; d > 0; d /= 2)
      part.cells_.value = op(part.cells_.value, other(part.cells_.value, d));
  }
  template <class T>
  __device__ T uniform(PerThread<DeviceBlock, T>& part) {
    return part.cells_.value;
  }
  template <class T, int N, class... Index>
  __device__ auto load(const Global<T, N>& from, Index... index) const {
    return widen(*GlobalAccess::cell(from, index...));
  }
  template <class T, int N, class Value, class... Index>
  __device__ void store(const Global<T, N>& to, Value value, Index... index) const {
    *GlobalAccess::cell(to, index...) = Narrow<T>::from(value);
  }

 private:
  template <class T>
  __device__ static T other(const T& mine, int distance) {
    static_assert(sizeof(T) % 4 == 0);
    union Words {
      T value;
      unsigned word[sizeof(T) / 4];
      __device__ Words() {}
    } from, to;
    from.value = mine;
#pragma unroll
    for (unsigned w = 0; w < sizeof(T) / 4; ++w) {
      to.word[w] = __shfl_xor_sync(0xffffffffu, from.word[w], distance);
    }
    return to.value;
  }
  unsigned char* arena_;
  std::size_t used_ = 0;
  bool dirty_ = false;
};
#endif

}  // namespace ps
