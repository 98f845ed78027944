#include "core/tensor.h"

#include <cstring>

#include "core/float_bits.h"
#include "core/result.h"

namespace ps {

std::int64_t count_of(const Shape& shape) {
  std::int64_t n = 1;
  for (const std::int64_t d : shape) n *= d;
  return n;
}

std::string to_string(const Shape& shape) {
  std::string out = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (i != 0) out += ',';
    out += std::to_string(shape[i]);
  }
  return out + "]";
}

Tensor::Tensor(DType dtype, Shape shape) : dtype_(dtype), shape_(std::move(shape)) {
  bytes_.resize(static_cast<std::size_t>(count_of(shape_) * size_of(dtype_)));
}

Tensor Tensor::copy_of(const TensorView& view) {
  Tensor t(view.dtype, view.shape);
  t.assign(view.bytes);
  return t;
}

void Tensor::assign(std::span<const std::byte> bytes) {
  PS_CHECK(bytes.size() == bytes_.size(), "shape " + to_string(shape_) + " of " +
                                              std::string(short_name(dtype_)) + " given " +
                                              std::to_string(bytes.size()) + " bytes");
  if (!bytes.empty()) std::memcpy(bytes_.data(), bytes.data(), bytes.size());
}

namespace {
template <class T>
T load(const std::byte* p) {
  T x;
  std::memcpy(&x, p, sizeof x);
  return x;
}

double load_as_double(DType dtype, const std::byte* p) {
  switch (dtype) {
    case DType::kF64:
      return load<double>(p);
    case DType::kF32:
      return static_cast<double>(load<float>(p));
    case DType::kF16:
      return static_cast<double>(f16_to_float(load<std::uint16_t>(p)));
    case DType::kBF16:
      return static_cast<double>(bf16_to_float(load<std::uint16_t>(p)));
    case DType::kF8E4M3:
      return static_cast<double>(f8e4m3_to_float(load<std::uint8_t>(p)));
    case DType::kF8E5M2:
      return static_cast<double>(f8e5m2_to_float(load<std::uint8_t>(p)));
    case DType::kI64:
      return static_cast<double>(load<std::int64_t>(p));
    case DType::kI32:
      return load<std::int32_t>(p);
    case DType::kI16:
      return load<std::int16_t>(p);
    case DType::kI8:
      return load<std::int8_t>(p);
    case DType::kU64:
      return static_cast<double>(load<std::uint64_t>(p));
    case DType::kU32:
      return load<std::uint32_t>(p);
    case DType::kU16:
      return load<std::uint16_t>(p);
    case DType::kU8:
      return load<std::uint8_t>(p);
    case DType::kBool:
      return load<std::uint8_t>(p) != 0 ? 1.0 : 0.0;
  }
  return 0.0;
}
}  // namespace

double value_at(const TensorView& view, std::int64_t i) {
  return load_as_double(view.dtype, view.bytes.data() + i * size_of(view.dtype));
}

void to_doubles(const TensorView& view, std::span<double> out) {
  PS_CHECK(static_cast<std::int64_t>(out.size()) == view.count(), "output of another size");
  const std::int64_t step = size_of(view.dtype);
  const std::byte* p = view.bytes.data();
  for (double& x : out) {
    x = load_as_double(view.dtype, p);
    p += step;
  }
}

}  // namespace ps
