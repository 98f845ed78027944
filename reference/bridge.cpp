#include "reference/bridge.h"

#include <new>

namespace ps::reference {

at::ScalarType scalar_type(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return at::kDouble;
    case DType::kF32:
      return at::kFloat;
    case DType::kF16:
      return at::kHalf;
    case DType::kBF16:
      return at::kBFloat16;
    case DType::kF8E4M3:
      return at::kFloat8_e4m3fn;
    case DType::kF8E5M2:
      return at::kFloat8_e5m2;
    case DType::kI64:
      return at::kLong;
    case DType::kI32:
      return at::kInt;
    case DType::kI16:
      return at::kShort;
    case DType::kI8:
      return at::kChar;
    case DType::kU64:
      return at::kUInt64;
    case DType::kU32:
      return at::kUInt32;
    case DType::kU16:
      return at::kUInt16;
    case DType::kU8:
      return at::kByte;
    case DType::kBool:
      return at::kBool;
  }
  return at::kFloat;
}

DType dtype_of(at::ScalarType type) {
  for (int i = 0; i <= static_cast<int>(DType::kBool); ++i) {
    const auto dtype = static_cast<DType>(i);
    if (scalar_type(dtype) == type) return dtype;
  }
  PS_CHECK(false, "a LibTorch type that parscope does not know");
}

at::Tensor borrow(const TensorView& view) {
  auto* data = const_cast<std::byte*>(view.bytes.data());  // NOLINT: from_blob asks for it
  static std::byte nothing[16];
  return at::from_blob(view.bytes.empty() ? nothing : data, view.shape,
                       at::TensorOptions().dtype(scalar_type(view.dtype)));
}

TensorView view_of(const at::Tensor& t) {
  PS_CHECK(t.is_contiguous(), "a view of a strided tensor");
  return {dtype_of(t.scalar_type()), Shape(t.sizes().begin(), t.sizes().end()),
          std::span(static_cast<const std::byte*>(t.const_data_ptr()), t.nbytes())};
}

at::Tensor from_int64(const std::vector<std::int64_t>& values, at::IntArrayRef shape) {
  at::Tensor t = at::empty(shape, at::kLong);
  PS_CHECK(t.numel() == static_cast<std::int64_t>(values.size()), "values for another shape");
  std::copy(values.begin(), values.end(), t.mutable_data_ptr<std::int64_t>());
  return t;
}

Error torch_error(const std::string& where, const std::exception& e) {
  std::string text = e.what();
  if (const auto stack = text.find("\nException raised from"); stack != std::string::npos) {
    text.resize(stack);
  }
  const bool memory = dynamic_cast<const std::bad_alloc*>(&e) != nullptr ||
                      text.find("allocate memory") != std::string::npos;
  return machine_error(where, memory ? "out of memory: " + text : "LibTorch: " + text);
}

}  // namespace ps::reference
