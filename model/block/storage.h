// The three types that activations are stored in. Arithmetic is float; `widen` reads a stored
// value, `narrow` rounds to nearest even, once. Integers pass through unchanged.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "core/float_bits.h"

namespace ps {

struct Bf16 {
  std::uint16_t bits;
};
struct F16 {
  std::uint16_t bits;
};

PS_HD inline float widen(float x) { return x; }
PS_HD inline float widen(Bf16 x) { return bf16_to_float(x.bits); }
PS_HD inline float widen(F16 x) { return f16_to_float(x.bits); }
PS_HD inline std::int64_t widen(std::int64_t x) { return x; }
PS_HD inline std::uint8_t widen(std::uint8_t x) { return x; }

template <class S>
struct Narrow;
template <>
struct Narrow<float> {
  PS_HD static float from(float x) { return x; }
};
template <>
struct Narrow<Bf16> {
  PS_HD static Bf16 from(float x) { return {float_to_bf16(x)}; }
};
template <>
struct Narrow<F16> {
  PS_HD static F16 from(float x) { return {float_to_f16(x)}; }
};
template <>
struct Narrow<std::int64_t> {
  PS_HD static std::int64_t from(std::int64_t x) { return x; }
};
template <>
struct Narrow<std::uint8_t> {
  PS_HD static std::uint8_t from(std::uint8_t x) { return x; }
};

// The value that x has once it was stored as S.
template <class S>
PS_HD inline float rounded(float x) {
  return widen(Narrow<S>::from(x));
}

template <class S>
inline constexpr DType kDTypeOf = DType::kF32;
template <>
inline constexpr DType kDTypeOf<Bf16> = DType::kBF16;
template <>
inline constexpr DType kDTypeOf<F16> = DType::kF16;
template <>
inline constexpr DType kDTypeOf<std::int64_t> = DType::kI64;
template <>
inline constexpr DType kDTypeOf<std::uint8_t> = DType::kBool;

}  // namespace ps
