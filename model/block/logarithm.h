// Natural logarithm of a positive normal float in plain + - * /: the same bits on both machines.
// Within 2 ulp of the true value, or 1e-7 near 1.
#pragma once

#include <cstdint>

#include "core/float_bits.h"

namespace ps {

PS_HD inline float logarithm(float x) {
  // x = 2^e m with m in [sqrt(1/2), sqrt(2)); log m = 2 atanh(s), s = (m-1)/(m+1).
  const std::uint32_t bits = bits_of(x);
  std::int32_t e = static_cast<std::int32_t>(bits >> 23) - 127;
  float m = float_of((bits & 0x7fffffu) | 0x3f800000u);
  if (m > 1.41421356f) {
    m *= 0.5f;
    ++e;
  }
  const float s = (m - 1.f) / (m + 1.f), z = s * s;
  float p = 0.111111111f;
  p = p * z + 0.142857143f;
  p = p * z + 0.2f;
  p = p * z + 0.333333333f;
  const float log_m = 2.f * s + 2.f * s * z * p;
  const auto n = static_cast<float>(e);
  return n * 0.693359375f + (log_m - n * 2.12194440e-4f);
}

}  // namespace ps
