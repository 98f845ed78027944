// Array: a typed, strided array on one device, with the type as a value. What the engine passes
// around; a kernel gets it as Global<T, N>. It borrows.
// Laws: sizes and strides count elements; the last axis has stride 1 (or one cell).
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "core/dtype.h"
#include "core/result.h"
#include "core/tensor.h"

namespace ps {

inline constexpr int kMaxAxes = 6;

class Array {
 public:
  Array() = default;
  Array(void* data, DType dtype, std::initializer_list<std::int64_t> sizes)
      : data_(data), dtype_(dtype) {
    PS_CHECK(sizes.size() >= 1 && sizes.size() <= kMaxAxes, "an array has 1 to 6 axes");
    for (const std::int64_t size : sizes) size_[static_cast<std::size_t>(ndim_++)] = size;
    std::int64_t step = 1;
    for (int axis = ndim_ - 1; axis >= 0; --axis) {
      stride_[static_cast<std::size_t>(axis)] = step;
      step *= this->size(axis);
    }
  }

  void* data() const { return data_; }
  explicit operator bool() const { return ndim_ != 0; }  // a default Array: an absent weight
  DType dtype() const { return dtype_; }
  int ndim() const { return ndim_; }
  std::int64_t size(int axis) const { return size_[static_cast<std::size_t>(axis)]; }
  std::int64_t stride(int axis) const { return stride_[static_cast<std::size_t>(axis)]; }
  std::int64_t count() const {
    std::int64_t n = 1;
    for (int axis = 0; axis < ndim_; ++axis) n *= size(axis);
    return n;
  }
  std::int64_t bytes() const { return count() * size_of(dtype_); }
  // Elements from the first to the last cell, both included; 0 when there is none.
  std::int64_t extent() const {
    if (count() == 0) return 0;
    std::int64_t last = 0;
    for (int axis = 0; axis < ndim_; ++axis) last += (size(axis) - 1) * stride(axis);
    return last + 1;
  }
  bool contiguous() const {
    std::int64_t step = 1;
    for (int axis = ndim_ - 1; axis >= 0; --axis) {
      if (size(axis) != 1 && stride(axis) != step) return false;
      step *= size(axis);
    }
    return true;
  }
  Shape shape() const { return {size_.begin(), size_.begin() + ndim_}; }
  std::string describe() const { return std::string(short_name(dtype_)) + to_string(shape()); }

  // The same cells, other axes. Only for contiguous arrays.
  Array reshaped(std::initializer_list<std::int64_t> sizes) const {
    const Array out(data_, dtype_, sizes);
    PS_CHECK(contiguous() && out.count() == count(),
             "reshape of " + describe() + " to " + out.describe());
    return out;
  }
  // [.., a*b, ..] as [.., a, b, ..].
  Array split(int axis, std::int64_t inner) const {
    PS_CHECK(ndim_ < kMaxAxes && inner > 0 && size(axis) % inner == 0, "split of " + describe());
    Array out = *this;
    ++out.ndim_;
    for (int i = ndim_; i > axis + 1; --i) out.set(i, size(i - 1), stride(i - 1));
    out.set(axis, size(axis) / inner, stride(axis) * inner);
    out.set(axis + 1, inner, stride(axis));
    return out;
  }
  Array transposed(int a, int b) const {
    Array out = *this;
    out.set(a, size(b), stride(b));
    out.set(b, size(a), stride(a));
    return out;
  }
  // Axis i of the result is axis order[i] of this.
  Array permuted(std::initializer_list<int> order) const {
    PS_CHECK(static_cast<int>(order.size()) == ndim_, "permute of " + describe());
    Array out = *this;
    int axis = 0;
    for (const int from : order) {
      out.set(axis, size(from), stride(from));
      ++axis;
    }
    return out;
  }
  // Without a first axis of size one.
  Array dropped_first() const {
    PS_CHECK(ndim_ > 1 && size(0) == 1, "no axis to drop in " + describe());
    Array out = *this;
    --out.ndim_;
    for (int axis = 0; axis + 1 < ndim_; ++axis) out.set(axis, size(axis + 1), stride(axis + 1));
    return out;
  }
  Array narrowed(int axis, std::int64_t begin, std::int64_t length) const {
    PS_CHECK(begin >= 0 && length >= 0 && begin + length <= size(axis), "narrow of " + describe());
    Array out = *this;
    out.data_ = static_cast<std::byte*>(data_) + begin * stride(axis) * size_of(dtype_);
    out.size_[static_cast<std::size_t>(axis)] = length;
    return out;
  }

 private:
  void set(int axis, std::int64_t size, std::int64_t stride) {
    size_[static_cast<std::size_t>(axis)] = size;
    stride_[static_cast<std::size_t>(axis)] = stride;
  }
  void* data_ = nullptr;
  DType dtype_ = DType::kF32;
  int ndim_ = 0;
  std::array<std::int64_t, kMaxAxes> size_{};
  std::array<std::int64_t, kMaxAxes> stride_{};
};

}  // namespace ps
