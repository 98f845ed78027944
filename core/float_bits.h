// Bits of floating numbers: conversions that round to nearest even and keep NaN a NaN, value
// classes, distance in units of the last place. The same code runs in kernels and on the host.
#pragma once

#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#define PS_HD __host__ __device__
#else
#define PS_HD
#endif

namespace ps {

PS_HD inline std::uint32_t bits_of(float x) {
  std::uint32_t u;
  memcpy(&u, &x, sizeof u);
  return u;
}
PS_HD inline float float_of(std::uint32_t u) {
  float x;
  memcpy(&x, &u, sizeof x);
  return x;
}
PS_HD inline std::uint64_t bits_of(double x) {
  std::uint64_t u;
  memcpy(&u, &x, sizeof u);
  return u;
}

PS_HD inline float bf16_to_float(std::uint16_t h) {
  return float_of(static_cast<std::uint32_t>(h) << 16);
}

PS_HD inline std::uint16_t float_to_bf16(float x) {
  std::uint32_t u = bits_of(x);
  if ((u & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>((u >> 16) | 0x40u);
  u += 0x7fffu + ((u >> 16) & 1u);  // ties to even; may carry into infinity, as it should
  return static_cast<std::uint16_t>(u >> 16);
}

PS_HD inline float f16_to_float(std::uint16_t h) {
  const std::uint32_t sign = static_cast<std::uint32_t>(h & 0x8000u) << 16;
  const std::uint32_t exponent = (h >> 10) & 0x1fu;
  const std::uint32_t mantissa = h & 0x3ffu;
  if (exponent == 0x1fu) return float_of(sign | 0x7f800000u | (mantissa << 13));
  if (exponent != 0) return float_of(sign | ((exponent + 112u) << 23) | (mantissa << 13));
  const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;  // subnormal: exact
  return sign != 0 ? -magnitude : magnitude;
}

PS_HD inline std::uint16_t float_to_f16(float x) {
  const std::uint32_t u = bits_of(x);
  const auto sign = static_cast<std::uint16_t>((u >> 16) & 0x8000u);
  const std::uint32_t a = u & 0x7fffffffu;
  if (a > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u | ((a >> 13) & 0x1ffu));
  if (a >= 0x477ff000u) return static_cast<std::uint16_t>(sign | 0x7c00u);  // 65520 and above
  if (a < 0x38800000u) {               // below 2^-14: subnormal or zero, in units of 2^-24
    if (a < 0x33000000u) return sign;  // below 2^-25: zero, and so is 2^-25 itself by the tie rule
    const std::uint32_t shift = 126u - (a >> 23);  // 14 to 24
    const std::uint32_t m = (a & 0x7fffffu) | 0x800000u;
    const std::uint32_t half = 1u << (shift - 1u);
    const std::uint32_t rest = m & ((1u << shift) - 1u);
    std::uint32_t q = m >> shift;
    if (rest > half || (rest == half && (q & 1u) != 0)) ++q;
    return static_cast<std::uint16_t>(sign | q);
  }
  const std::uint32_t r = a + 0xfffu + ((a >> 13) & 1u) - (112u << 23);
  return static_cast<std::uint16_t>(sign | (r >> 13));
}

// E4M3 of the "fn" kind: no infinity, NaN is all ones. E5M2 is a cut-off half.
PS_HD inline float f8e4m3_to_float(std::uint8_t b) {
  const std::uint32_t sign = static_cast<std::uint32_t>(b & 0x80u) << 24;
  const std::uint32_t exponent = (b >> 3) & 0xfu;
  const std::uint32_t mantissa = b & 7u;
  if (exponent == 0xfu && mantissa == 7u) return float_of(sign | 0x7fc00000u);
  if (exponent != 0) return float_of(sign | ((exponent + 120u) << 23) | (mantissa << 20));
  const float magnitude = static_cast<float>(mantissa) * 0x1p-9f;
  return sign != 0 ? -magnitude : magnitude;
}
PS_HD inline float f8e5m2_to_float(std::uint8_t b) {
  return f16_to_float(static_cast<std::uint16_t>(b << 8));
}

enum class ValueClass : std::uint8_t { kZero, kSubnormal, kNormal, kPosInf, kNegInf, kNan };

PS_HD inline ValueClass classify(double x) {
  const std::uint64_t u = bits_of(x);
  const std::uint64_t a = u & 0x7fffffffffffffffull;
  if (a > 0x7ff0000000000000ull) return ValueClass::kNan;
  if (a == 0x7ff0000000000000ull) return u == a ? ValueClass::kPosInf : ValueClass::kNegInf;
  if (a == 0) return ValueClass::kZero;
  return a < 0x0010000000000000ull ? ValueClass::kSubnormal : ValueClass::kNormal;
}

// Position of x on the number line of its type, so that ulps are a subtraction; -0 equals +0.
PS_HD inline std::int64_t ordinal(float x) {
  const auto i = static_cast<std::int32_t>(bits_of(x));
  return i >= 0 ? std::int64_t{i} : -std::int64_t{i & 0x7fffffff};
}
PS_HD inline std::int64_t ordinal(double x) {
  const auto i = static_cast<std::int64_t>(bits_of(x));
  return i >= 0 ? i : -(i & 0x7fffffffffffffffll);
}
PS_HD inline std::int64_t ordinal16(std::uint16_t h) {  // f16 and bf16 alike
  return (h & 0x8000u) == 0 ? std::int64_t{h} : -std::int64_t{h & 0x7fffu};
}

}  // namespace ps
