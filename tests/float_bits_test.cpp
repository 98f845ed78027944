#include "core/float_bits.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

namespace ps {
namespace {

// A small float written down as its definition says: nothing shared with the code under test.
struct Format {
  int exponent_bits;
  int mantissa_bits;
};
constexpr Format kHalf{5, 10};
constexpr Format kBrain{8, 7};
constexpr Format kE4M3{4, 3};
constexpr Format kE5M2{5, 2};

// The value of a pattern without its sign, as if the largest exponent were an ordinary one.
double magnitude(Format f, unsigned pattern) {
  const int bias = (1 << (f.exponent_bits - 1)) - 1;
  const auto mantissa = static_cast<double>(pattern & ((1u << f.mantissa_bits) - 1));
  const int exponent = static_cast<int>(pattern >> f.mantissa_bits);
  const double scale = std::ldexp(1.0, f.mantissa_bits);
  if (exponent == 0) return std::ldexp(mantissa / scale, 1 - bias);
  return std::ldexp(1.0 + mantissa / scale, exponent - bias);
}
unsigned infinity_of(Format f) { return ((1u << f.exponent_bits) - 1) << f.mantissa_bits; }

// Decodes all 65,536 patterns and encodes them again.
void expect_round_trip(Format f, float (*decode)(std::uint16_t), std::uint16_t (*encode)(float)) {
  const unsigned inf = infinity_of(f);
  const unsigned quiet = 1u << (f.mantissa_bits - 1);
  for (unsigned p = 0; p < 65536; ++p) {
    const auto pattern = static_cast<std::uint16_t>(p);
    const unsigned a = p & 0x7fffu;
    const float x = decode(pattern);
    ASSERT_EQ(std::signbit(x), p >= 0x8000u) << p;
    if (a > inf) {
      ASSERT_TRUE(std::isnan(x)) << p;
      ASSERT_EQ(encode(x), pattern | quiet) << p;  // the payload stays, a signalling NaN calms down
      continue;
    }
    if (a == inf) {
      ASSERT_TRUE(std::isinf(x)) << p;
    } else {
      ASSERT_EQ(std::fabs(static_cast<double>(x)), magnitude(f, a)) << p;
    }
    ASSERT_EQ(encode(x), pattern) << p;
  }
}

// Rounds by search: the nearest of all values, the even pattern where two are as near.
unsigned nearest(Format f, double x, const std::vector<double>& values) {
  const auto above = std::lower_bound(values.begin(), values.end(), x);
  const auto upper = static_cast<unsigned>(above - values.begin());
  if (upper >= infinity_of(f)) {
    // Beyond the last finite value there is one step more, and that step is infinity.
    const double next = magnitude(f, infinity_of(f));
    const double last = values.back();
    return x - last < next - x ? infinity_of(f) - 1 : infinity_of(f);
  }
  if (upper == 0) return 0;
  const double down = x - values[upper - 1];
  const double up = values[upper] - x;
  if (down != up) return down < up ? upper - 1 : upper;
  return upper % 2 == 0 ? upper : upper - 1;
}

void expect_nearest_around_midpoints(Format f, std::uint16_t (*encode)(float)) {
  std::vector<double> values;  // of all finite patterns without sign
  for (unsigned p = 0; p < infinity_of(f); ++p) values.push_back(magnitude(f, p));
  for (unsigned p = 0; p < infinity_of(f); ++p) {
    // A midpoint has one bit more than the format, so it is a float.
    const double below = magnitude(f, p);
    const auto middle = static_cast<float>(below + (magnitude(f, p + 1) - below) / 2);
    for (const float x : {std::nextafterf(middle, 0.0f), middle,
                          std::nextafterf(middle, std::numeric_limits<float>::infinity())}) {
      const unsigned expected = nearest(f, static_cast<double>(x), values);
      ASSERT_EQ(encode(x), expected) << x;
      ASSERT_EQ(encode(-x), expected | 0x8000u) << x;
    }
  }
}

TEST(FloatBits, EveryHalfPatternRoundTrips) {
  expect_round_trip(kHalf, f16_to_float, float_to_f16);
}
TEST(FloatBits, EveryBrainPatternRoundTrips) {
  expect_round_trip(kBrain, bf16_to_float, float_to_bf16);
}
TEST(FloatBits, HalfRoundsToTheNearestWithTiesToEven) {
  expect_nearest_around_midpoints(kHalf, float_to_f16);
}
TEST(FloatBits, BrainRoundsToTheNearestWithTiesToEven) {
  expect_nearest_around_midpoints(kBrain, float_to_bf16);
}

TEST(FloatBits, EdgesOfHalfAreWhereTheyBelong) {
  EXPECT_EQ(float_to_f16(65504.0f), 0x7bff);
  EXPECT_EQ(float_to_f16(65519.996f), 0x7bff);
  EXPECT_EQ(float_to_f16(65520.0f), 0x7c00);
  EXPECT_EQ(float_to_f16(0x1p-24f), 1);
  EXPECT_EQ(float_to_f16(0x1p-25f), 0);  // a tie with zero
  EXPECT_EQ(float_to_f16(0x1.000002p-25f), 1);
  EXPECT_EQ(float_to_f16(-0.0f), 0x8000);
  EXPECT_EQ(float_to_bf16(3.4028235e38f), 0x7f80);
}

TEST(FloatBits, NanIsNeverRoundedToInfinity) {
  for (std::uint32_t payload = 1; payload < (1u << 23); payload = payload * 2 + 1) {
    for (const std::uint32_t sign : {0u, 0x80000000u}) {
      const float nan = float_of(sign | 0x7f800000u | payload);
      EXPECT_TRUE(std::isnan(f16_to_float(float_to_f16(nan)))) << payload;
      EXPECT_TRUE(std::isnan(bf16_to_float(float_to_bf16(nan)))) << payload;
    }
  }
}

TEST(FloatBits, EveryFloat8PatternHasTheValueOfItsDefinition) {
  for (unsigned p = 0; p < 256; ++p) {
    const auto byte = static_cast<std::uint8_t>(p);
    const unsigned a = p & 0x7fu;
    const double sign = p >= 0x80 ? -1.0 : 1.0;
    const float x = f8e4m3_to_float(byte);
    if (a == 0x7f) {
      EXPECT_TRUE(std::isnan(x)) << p;  // the only NaN; there is no infinity
    } else {
      EXPECT_EQ(static_cast<double>(x), sign * magnitude(kE4M3, a)) << p;
    }
    const float y = f8e5m2_to_float(byte);
    if (a > 0x7c) {
      EXPECT_TRUE(std::isnan(y)) << p;
    } else if (a == 0x7c) {
      EXPECT_TRUE(std::isinf(y)) << p;
    } else {
      EXPECT_EQ(static_cast<double>(y), sign * magnitude(kE5M2, a)) << p;
    }
  }
  EXPECT_EQ(f8e4m3_to_float(0x7e), 448.0f);
  EXPECT_EQ(f8e4m3_to_float(0x01), 0x1p-9f);
  EXPECT_EQ(f8e5m2_to_float(0x7b), 57344.0f);
  EXPECT_EQ(f8e5m2_to_float(0x01), 0x1p-16f);
}

TEST(FloatBits, ClassesAreTold) {
  EXPECT_EQ(classify(0.0), ValueClass::kZero);
  EXPECT_EQ(classify(-0.0), ValueClass::kZero);
  EXPECT_EQ(classify(0x1p-1074), ValueClass::kSubnormal);
  EXPECT_EQ(classify(-0x1p-1022), ValueClass::kNormal);
  EXPECT_EQ(classify(std::numeric_limits<double>::infinity()), ValueClass::kPosInf);
  EXPECT_EQ(classify(-std::numeric_limits<double>::infinity()), ValueClass::kNegInf);
  EXPECT_EQ(classify(std::nan("")), ValueClass::kNan);
}

TEST(FloatBits, NeighboursAreOneOrdinalApart) {
  for (const float x : {0.0f, 0x1p-149f, 0x1p-126f, 1.0f, 65504.0f, -1.0f, -0x1p-149f, 3e38f}) {
    const float up = std::nextafterf(x, std::numeric_limits<float>::infinity());
    EXPECT_EQ(ordinal(up) - ordinal(x), 1) << x;
  }
  for (const double x : {0.0, 0x1p-1074, 1.0, -1.0, -0x1p-1074, 1e308}) {
    EXPECT_EQ(ordinal(std::nextafter(x, std::numeric_limits<double>::infinity())) - ordinal(x), 1)
        << x;
  }
  EXPECT_EQ(ordinal(-0.0f), ordinal(0.0f));
  EXPECT_EQ(ordinal(-0.0), ordinal(0.0));
  EXPECT_EQ(ordinal16(0x8000), ordinal16(0));
  EXPECT_EQ(ordinal16(0x3c01) - ordinal16(0x3c00), 1);
  EXPECT_EQ(ordinal16(0xbc00) - ordinal16(0xbc01), 1);
}

}  // namespace
}  // namespace ps
