// Global<T, N>: an array in global memory as a kernel body sees it. A body can ask for its sizes;
// its cells go through block.load and block.store alone, so that the checked runner sees every
// access. Law: cells of the last axis lie side by side (its stride is 1, or it has one cell).
#pragma once

#include <type_traits>

#include "model/block/storage.h"

namespace ps {

template <class T, int N>
class Global {
  static_assert(N >= 1 && N <= 6);

 public:
  Global() = default;
  Global(T* data, const std::int64_t* sizes, const std::int64_t* strides) : data_(data) {
    for (int axis = 0; axis < N; ++axis) {
      size_[axis] = sizes[axis];
      stride_[axis] = strides[axis];
    }
  }
  PS_HD std::int64_t size(int axis) const { return size_[axis]; }

 private:
  friend struct GlobalAccess;
  T* data_ = nullptr;
  std::int64_t size_[N] = {};
  std::int64_t stride_[N] = {};
};

// For blocks only.
struct GlobalAccess {
  template <class T, int N, class... Index>
  PS_HD static T* cell(const Global<T, N>& global, Index... index) {
    static_assert(sizeof...(Index) == N);
    const std::int64_t at[N] = {static_cast<std::int64_t>(index)...};
    std::int64_t offset = at[N - 1];  // the last axis: no multiplication, so loops vectorise
    for (int axis = 0; axis < N - 1; ++axis) offset += at[axis] * global.stride_[axis];
    return global.data_ + offset;
  }
  template <class T, int N, class... Index>
  static bool contains(const Global<T, N>& global, Index... index) {
    static_assert(sizeof...(Index) == N);
    const std::int64_t at[N] = {static_cast<std::int64_t>(index)...};
    for (int axis = 0; axis < N; ++axis) {
      if (at[axis] < 0 || at[axis] >= global.size_[axis]) return false;
    }
    return true;
  }
};

}  // namespace ps
