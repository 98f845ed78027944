#include "core/dtype.h"

#include <array>

#include "core/result.h"

namespace ps {

namespace {
struct Row {
  DType dtype;
  std::int64_t size;
  std::string_view safetensors, torch, brief;
  bool floating;
  double roundoff;
};

constexpr std::array kRows = {
    Row{DType::kF64, 8, "F64", "float64", "f64", true, 0x1p-53},
    Row{DType::kF32, 4, "F32", "float32", "f32", true, 0x1p-24},
    Row{DType::kF16, 2, "F16", "float16", "f16", true, 0x1p-11},
    Row{DType::kBF16, 2, "BF16", "bfloat16", "bf16", true, 0x1p-8},
    Row{DType::kF8E4M3, 1, "F8_E4M3", "float8_e4m3fn", "f8e4m3", true, 0x1p-4},
    Row{DType::kF8E5M2, 1, "F8_E5M2", "float8_e5m2", "f8e5m2", true, 0x1p-3},
    Row{DType::kI64, 8, "I64", "int64", "i64", false, 0},
    Row{DType::kI32, 4, "I32", "int32", "i32", false, 0},
    Row{DType::kI16, 2, "I16", "int16", "i16", false, 0},
    Row{DType::kI8, 1, "I8", "int8", "i8", false, 0},
    Row{DType::kU64, 8, "U64", "uint64", "u64", false, 0},
    Row{DType::kU32, 4, "U32", "uint32", "u32", false, 0},
    Row{DType::kU16, 2, "U16", "uint16", "u16", false, 0},
    Row{DType::kU8, 1, "U8", "uint8", "u8", false, 0},
    Row{DType::kBool, 1, "BOOL", "bool", "bool", false, 0},
};

const Row& row(DType dtype) {
  const auto index = static_cast<std::size_t>(dtype);
  PS_CHECK(index < kRows.size(), "dtype " + std::to_string(index));
  return kRows[index];
}

template <class Field>
std::optional<DType> find(std::string_view name, Field field) {
  for (const Row& r : kRows) {
    if (r.*field == name) return r.dtype;
  }
  return std::nullopt;
}
}  // namespace

std::int64_t size_of(DType dtype) { return row(dtype).size; }
std::string_view safetensors_name(DType dtype) { return row(dtype).safetensors; }
std::string_view torch_name(DType dtype) { return row(dtype).torch; }
std::string_view short_name(DType dtype) { return row(dtype).brief; }
std::optional<DType> dtype_from_safetensors(std::string_view name) {
  return find(name, &Row::safetensors);
}
std::optional<DType> dtype_from_torch(std::string_view name) {
  constexpr std::string_view kPrefix = "torch.";
  if (name.starts_with(kPrefix)) name.remove_prefix(kPrefix.size());
  if (name == "half") return DType::kF16;
  if (name == "float") return DType::kF32;
  if (name == "double") return DType::kF64;
  return find(name, &Row::torch);
}
std::optional<DType> dtype_from_short(std::string_view name) { return find(name, &Row::brief); }
bool is_floating(DType dtype) { return row(dtype).floating; }
bool is_integer(DType dtype) { return !row(dtype).floating && dtype != DType::kBool; }
double unit_roundoff(DType dtype) { return row(dtype).roundoff; }

}  // namespace ps
