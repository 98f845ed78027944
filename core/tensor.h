// Tensors as bytes with a dtype and a shape, always contiguous and row-major. TensorView borrows,
// Tensor owns. Arithmetic does not live here: model/ and reference/ share none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/dtype.h"

namespace ps {

using Shape = std::vector<std::int64_t>;

std::int64_t count_of(const Shape& shape);  // number of elements; 1 for a scalar
std::string to_string(const Shape& shape);  // "[2,1,48,128]"

struct TensorView {
  DType dtype = DType::kF32;
  Shape shape;
  std::span<const std::byte> bytes;

  std::int64_t count() const { return count_of(shape); }
  template <class T>
  std::span<const T> as() const {
    return {reinterpret_cast<const T*>(bytes.data()), bytes.size() / sizeof(T)};
  }
};

class Tensor {
 public:
  Tensor() = default;
  Tensor(DType dtype, Shape shape);  // zeros
  static Tensor copy_of(const TensorView& view);
  template <class T>
  static Tensor of(DType dtype, Shape shape, std::span<const T> values) {
    Tensor t(dtype, std::move(shape));
    t.assign(std::as_bytes(values));
    return t;
  }

  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  TensorView view() const { return {dtype_, shape_, bytes_}; }
  std::span<std::byte> bytes() { return bytes_; }
  template <class T>
  std::span<T> as() {
    return {reinterpret_cast<T*>(bytes_.data()), bytes_.size() / sizeof(T)};
  }

 private:
  void assign(std::span<const std::byte> bytes);
  DType dtype_ = DType::kF32;
  Shape shape_;
  std::vector<std::byte> bytes_;
};

// Element i of a view, as the nearest double (exact for every type but 64-bit integers).
double value_at(const TensorView& view, std::int64_t i);
void to_doubles(const TensorView& view, std::span<double> out);

}  // namespace ps
