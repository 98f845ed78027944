// exp, sine and cosine in plain + - * /, so that both machines compute the same bits when neither
// contracts to fused multiply-add, and so that a host compiler can vectorise exp. The device's own
// cosf keeps a table in local memory for large angles; this has none.
// exponential: within 2 ulp of the true value. sine_cosine: within 1e-9 up to |angle| = 2^30.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/float_bits.h"

namespace ps {

PS_HD inline float exponential(float x) {
  // x = n ln 2 + r with |r| <= ln 2 / 2. Adding and taking away 1.5 * 2^23 rounds to an integer.
  const float clamped = x < -104.f ? -104.f : (x > 89.f ? 89.f : x);
  const float shifted = clamped * 1.44269504f + 12582912.f;
  const float n = shifted - 12582912.f;
  const float r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const float e = p * r * r + r + 1.f;
  // 2^n in two halves: n runs from -150 (subnormal results) to 128 (infinity).
  const auto half = static_cast<std::int32_t>(n) / 2;
  const auto rest = static_cast<std::int32_t>(n) - half;
  const float y = e * float_of(static_cast<std::uint32_t>(half + 127) << 23) *
                  float_of(static_cast<std::uint32_t>(rest + 127) << 23);
  return x == x ? y : x;  // NaN stays NaN
}

struct SineCosine {
  double sine, cosine;
};

PS_HD inline SineCosine sine_cosine(double angle) {
  // angle = n pi/2 + r, pi/2 in two parts, so that n times the first is exact for n < 2^29.
  const double n = rint(angle * 0.63661977236758134308);
  const double r = (angle - n * 1.57079631090164184570) - n * 1.58932547735281966916e-8;
  const double s = r * r;
  double sine = -7.6471637318198164759e-13;
  sine = sine * s + 1.6059043836821614599e-10;
  sine = sine * s - 2.5052108385441718775e-8;
  sine = sine * s + 2.7557319223985890653e-6;
  sine = sine * s - 1.9841269841269841270e-4;
  sine = sine * s + 8.3333333333333333333e-3;
  sine = sine * s - 1.6666666666666666667e-1;
  sine = sine * s * r + r;
  double cosine = 4.7794773323873852974e-14;
  cosine = cosine * s - 1.1470745597729724714e-11;
  cosine = cosine * s + 2.0876756987868098979e-9;
  cosine = cosine * s - 2.7557319223985890653e-7;
  cosine = cosine * s + 2.4801587301587301587e-5;
  cosine = cosine * s - 1.3888888888888888889e-3;
  cosine = cosine * s + 4.1666666666666666667e-2;
  cosine = cosine * s - 0.5;
  cosine = cosine * s + 1.0;
  const auto quadrant = static_cast<std::int64_t>(n) & 3;
  const double a = (quadrant & 1) != 0 ? cosine : sine;
  const double b = (quadrant & 1) != 0 ? sine : cosine;
  return {quadrant >= 2 ? -a : a, quadrant == 1 || quadrant == 2 ? -b : b};
}

}  // namespace ps
