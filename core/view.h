// View<T, N>: pointer, sizes and strides of a typed array that somebody else owns. Works in
// kernels. Indices are int64_t; a wrong number of them does not compile. Bounds are the caller's,
// except in checked_at, which the checked runner uses.
#pragma once

#include <cstdint>
#include <type_traits>

#include "core/float_bits.h"

namespace ps {

template <class T, int N>
class View {
  static_assert(N >= 1 && N <= 6);

 public:
  View() = default;
  template <class... Sizes>
    requires(sizeof...(Sizes) == N)
  PS_HD explicit View(T* data, Sizes... sizes)
      : data_(data), size_{static_cast<std::int64_t>(sizes)...} {
    std::int64_t step = 1;
    for (int axis = N - 1; axis >= 0; --axis) {
      stride_[axis] = step;
      step *= size_[axis];
    }
  }
  PS_HD operator View<const T, N>() const  // NOLINT(google-explicit-constructor)
    requires(!std::is_const_v<T>)
  {
    View<const T, N> v;
    v.data_ = data_;
    for (int axis = 0; axis < N; ++axis) {
      v.size_[axis] = size_[axis];
      v.stride_[axis] = stride_[axis];
    }
    return v;
  }

  template <class... Index>
    requires(sizeof...(Index) == N)
  PS_HD T& operator()(Index... index) const {
    return data_[offset(index...)];
  }
  template <class... Index>
    requires(sizeof...(Index) == N)
  PS_HD std::int64_t offset(Index... index) const {
    const std::int64_t at[N] = {static_cast<std::int64_t>(index)...};
    std::int64_t o = 0;
    for (int axis = 0; axis < N; ++axis) o += at[axis] * stride_[axis];
    return o;
  }
  template <class... Index>
    requires(sizeof...(Index) == N)
  PS_HD bool contains(Index... index) const {
    const std::int64_t at[N] = {static_cast<std::int64_t>(index)...};
    for (int axis = 0; axis < N; ++axis) {
      if (at[axis] < 0 || at[axis] >= size_[axis]) return false;
    }
    return true;
  }

  PS_HD std::int64_t size(int axis) const { return size_[axis]; }
  PS_HD std::int64_t stride(int axis) const { return stride_[axis]; }
  PS_HD std::int64_t count() const {
    std::int64_t n = 1;
    for (int axis = 0; axis < N; ++axis) n *= size_[axis];
    return n;
  }
  PS_HD T* data() const { return data_; }

  // The same cells with two axes exchanged.
  PS_HD View transposed(int a, int b) const {
    View v = *this;
    v.size_[a] = size_[b];
    v.size_[b] = size_[a];
    v.stride_[a] = stride_[b];
    v.stride_[b] = stride_[a];
    return v;
  }
  // The cells [begin, begin + length) of one axis.
  PS_HD View narrowed(int axis, std::int64_t begin, std::int64_t length) const {
    View v = *this;
    v.data_ = data_ + begin * stride_[axis];
    v.size_[axis] = length;
    return v;
  }

 private:
  template <class, int>
  friend class View;
  T* data_ = nullptr;
  std::int64_t size_[N] = {};
  std::int64_t stride_[N] = {};
};

}  // namespace ps
