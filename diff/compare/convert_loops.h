// The loops of kernel.h that turn one type into another, or cells into places on the number line.
// Included by kernel.cpp alone.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "diff/compare/kernel.h"
#include "diff/compare/lanes.h"

namespace ps::lanes {

// The place of x on the number line of a shorter type, after rounding to nearest even.
template <class L>
PS_INLINE typename L::Ints ordinals(const typename L::Floats& x, const UlpFormat& format) {
  using Ints = typename L::Ints;
  using Floats = typename L::Floats;
  const Ints all = bits<Ints>(x);
  const Ints sign = all >> 31;
  const Ints size = all & 0x7fffffff;
  const int cut = 23 - format.mantissa_bits;
  Ints place = size;
  if (cut > 0) {
    const int bias = format.min_exponent + 126;  // 0: its subnormals are those of f32
    place = ((size + ((1 << (cut - 1)) - 1) + ((size >> cut) & 1)) >> cut) -
            (bias << format.mantissa_bits);
    if (bias > 0) {
      // Subnormals count in steps of 2^(min_exponent - mantissa_bits); adding 1.5 * 2^23 rounds.
      const std::int32_t power = (127 + format.mantissa_bits - format.min_exponent) << 23;
      float steps;
      std::memcpy(&steps, &power, sizeof steps);
      const Floats small = bits<Floats>(size) * steps + 12582912.0f;
      const Ints first_normal = ((bias + 1) << 23) - Ints{};
      place = size < first_normal ? bits<Ints>(small) - 0x4b400000 : place;
    }
  }
  return (place ^ sign) - sign;
}

template <class L>
PS_INLINE std::int64_t ulp_f32(const float* a, const float* b, std::int64_t n,
                               const UlpFormat& format) {
  using Ints = typename L::Ints;
  using Words = typename L::Words;
  Words most = {};
  for (std::int64_t i = 0; i < n; i += L::kWords) {
    const Ints x = ordinals<L>(load<typename L::Floats>(a + i), format);
    const Ints y = ordinals<L>(load<typename L::Floats>(b + i), format);
    const Ints high = x > y ? x : y, low = x > y ? y : x;
    const Words apart = bits<Words>(high) - bits<Words>(low);
    most = apart > most ? apart : most;
  }
  std::uint32_t max = 0;
  for (int lane = 0; lane < L::kWords; ++lane) max = std::max(max, most[lane]);
  return max;
}

template <class L>
PS_INLINE typename L::Longs ordinals64(const double* x) {
  using Longs = typename L::Longs;
  const Longs all = load<Longs>(x);
  const Longs size = all & 0x7fffffffffffffff;
  return all < 0 ? -size : size;
}

template <class L>
PS_INLINE std::int64_t ulp_f64(const double* a, const double* b, std::int64_t n) {
  using Longs = typename L::Longs;
  const Longs far = 0x7fffffffffffffff - Longs{};
  Longs most = {};
  for (std::int64_t i = 0; i < n; i += L::kDoubles) {
    const Longs x = ordinals64<L>(a + i), y = ordinals64<L>(b + i);
    const Longs high = x > y ? x : y, low = x > y ? y : x;
    const Longs halves = (high >> 1) - (low >> 1);  // fits, also for opposite signs
    const Longs apart = halves < 0x3fffffffffffffff ? (halves << 1) + (high & 1) - (low & 1) : far;
    most = apart > most ? apart : most;
  }
  std::int64_t max = 0;
  for (int lane = 0; lane < L::kDoubles; ++lane) max = std::max(max, most[lane]);
  return max;
}

template <class L>
PS_INLINE void widen_bf16(const void* from, std::int64_t n, float* out) {
  const auto* p = static_cast<const std::uint8_t*>(from);
  for (std::int64_t i = 0; i < n; i += L::kWords) {
    const auto half = load<typename L::Halves>(p + 2 * i);
    store(out + i, __builtin_convertvector(half, typename L::Words) << 16);
  }
}

template <class L>
PS_INLINE void widen_f16(const void* from, std::int64_t n, float* out) {
  using Words = typename L::Words;
  using Floats = typename L::Floats;
  const auto* p = static_cast<const std::uint8_t*>(from);
  const Words last = 0x0f7fffffu - Words{};
  for (std::int64_t i = 0; i < n; i += L::kWords) {
    const Words half = __builtin_convertvector(load<typename L::Halves>(p + 2 * i), Words);
    const Words sign = (half & 0x8000u) << 16;
    const Words size = (half & 0x7fffu) << 13;
    // 2^112 moves the exponent to where f32 has it and turns subnormals into numbers, exactly.
    const Words moved = bits<Words>(bits<Floats>(size) * 0x1p112f);
    const Words word = size > last ? size | 0x7f800000u : moved;
    store(out + i, word | sign);
  }
}

template <class L>
PS_INLINE void widen_f32(const float* from, std::int64_t n, double* out) {
  for (std::int64_t i = 0; i < n; i += L::kDoubles) store(out + i, load_cells<L>(from + i));
}

template <class L>
PS_INLINE void narrow_f64(const double* from, std::int64_t n, float* out) {
  for (std::int64_t i = 0; i < n; i += L::kDoubles) {
    store(out + i, __builtin_convertvector(load_cells<L>(from + i), typename L::HalfFloats));
  }
}

}  // namespace ps::lanes
