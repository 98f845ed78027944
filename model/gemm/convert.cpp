#include "model/gemm/convert.h"

#include <cstring>

#include "core/result.h"
#include "model/block/storage.h"

namespace ps {
namespace {

template <class From, class Round>
void widen_column(const std::byte* from, std::int64_t count, float* to) {
  for (std::int64_t i = 0; i < count; ++i) {
    From value;
    std::memcpy(&value, from + i * static_cast<std::int64_t>(sizeof(From)),
                sizeof value);  // may lie at any address
    to[i] = rounded<Round>(widen(value));
  }
}

using WidenColumn = void (*)(const std::byte*, std::int64_t, float*);

template <class From>
WidenColumn widen_to(DType round_to) {
  if (round_to == DType::kBF16) return widen_column<From, Bf16>;
  if (round_to == DType::kF16) return widen_column<From, F16>;
  return widen_column<From, float>;
}

WidenColumn widen_column_for(DType from, DType round_to) {
  if (from == DType::kBF16) return widen_to<Bf16>(from == round_to ? DType::kF32 : round_to);
  if (from == DType::kF16) return widen_to<F16>(from == round_to ? DType::kF32 : round_to);
  PS_CHECK(from == DType::kF32, "a matrix of " + std::string(short_name(from)));
  return widen_to<float>(round_to);
}

template <class To>
void narrow(const float* from, std::int64_t count, std::byte* to) {
  for (std::int64_t i = 0; i < count; ++i) {
    const To value = Narrow<To>::from(from[i]);
    std::memcpy(to + i * static_cast<std::int64_t>(sizeof(To)), &value, sizeof value);
  }
}

void narrow_to(const float* from, std::int64_t count, DType type, std::byte* to) {
  if (type == DType::kBF16) return narrow<Bf16>(from, count, to);
  if (type == DType::kF16) return narrow<F16>(from, count, to);
  narrow<float>(from, count, to);
}

}  // namespace

const float* pack_to_float(const std::byte* data, DType from, DType round_to, std::int64_t rows,
                           std::int64_t cols, std::int64_t ld, std::vector<float>& scratch) {
  if (scratch.size() < static_cast<std::size_t>(rows * cols))
    scratch.resize(static_cast<std::size_t>(rows * cols));
  const WidenColumn widen_one = widen_column_for(from, round_to);
  for (std::int64_t col = 0; col < cols; ++col) {
    widen_one(data + col * ld * size_of(from), rows, scratch.data() + col * rows);
  }
  return scratch.data();
}

void store_rounded(const float* values, std::int64_t rows, std::int64_t cols, DType to,
                   std::int64_t ld, std::byte* out) {
  for (std::int64_t col = 0; col < cols; ++col)
    narrow_to(values + col * rows, rows, to, out + col * ld * size_of(to));
}

void convert_elements(const std::byte* from, DType from_type, std::byte* to, DType to_type,
                      std::int64_t count) {
  constexpr std::int64_t kStep = 4096;
  float values[kStep];
  for (std::int64_t at = 0; at < count; at += kStep) {
    const std::int64_t n = std::min(kStep, count - at);
    const std::byte* source = from + at * size_of(from_type);
    if (from_type == DType::kF64) {
      for (std::int64_t i = 0; i < n; ++i) {
        double value;
        std::memcpy(&value, source + i * 8, sizeof value);
        values[i] = static_cast<float>(value);
      }
    } else {
      widen_column_for(from_type, DType::kF32)(source, n, values);
    }
    narrow_to(values, n, to_type, to + at * size_of(to_type));
  }
}

}  // namespace ps
