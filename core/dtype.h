// The element types of a tensor, under the names of safetensors and of PyTorch.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace ps {

enum class DType : std::uint8_t {
  kF64,
  kF32,
  kF16,
  kBF16,
  kF8E4M3,
  kF8E5M2,
  kI64,
  kI32,
  kI16,
  kI8,
  kU64,
  kU32,
  kU16,
  kU8,
  kBool,
};

std::int64_t size_of(DType dtype);               // bytes of one element
std::string_view safetensors_name(DType dtype);  // "BF16"
std::string_view torch_name(DType dtype);        // "bfloat16"
std::string_view short_name(DType dtype);        // "bf16"
std::optional<DType> dtype_from_safetensors(std::string_view name);
std::optional<DType> dtype_from_torch(std::string_view name);  // "bfloat16", "torch.bfloat16"
std::optional<DType> dtype_from_short(std::string_view name);  // "bf16"
bool is_floating(DType dtype);
bool is_integer(DType dtype);  // without kBool

// Unit round-off: half the distance from 1 to the next number. 0 for integers.
double unit_roundoff(DType dtype);

}  // namespace ps
