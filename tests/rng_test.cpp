#include "core/rng.h"

#include <cmath>
#include <cstdint>
#include <set>
#include <vector>

#include <gtest/gtest.h>

namespace ps {
namespace {

// Stored once: fixtures and reports name seeds, so these may never change.
TEST(Rng, StoredSeedsGiveTheStoredNumbers) {
  const Rng rng(7, 3);
  EXPECT_EQ(rng.bits(0), 0x5d222f78c9b39bc6ull);
  EXPECT_EQ(rng.bits(1), 0xf220839d01c9e88cull);
  EXPECT_EQ(rng.bits(std::uint64_t{1} << 40), 0xb0972198e0c1c838ull);
  EXPECT_EQ(Rng(0, 0).bits(0), 0xdb0cda37c02e61d3ull);
  EXPECT_EQ(rng.below(5, 97), 36);
  EXPECT_EQ(rng.uniform(2), 0x1.4c7df1cedb43p-5);
  EXPECT_EQ(rng.normal(2), 0x1.170a7b6cp-2);
}

TEST(Rng, NumbersDependOnSeedStreamAndIndexOnly) {
  const Rng a(11, 5);
  const std::uint64_t later = a.bits(1000);
  EXPECT_EQ(a.bits(1000), later);  // no state
  EXPECT_EQ(Rng(11, 5).bits(1000), later);
  EXPECT_NE(Rng(12, 5).bits(1000), later);
  EXPECT_NE(Rng(11, 6).bits(1000), later);
  EXPECT_NE(Rng(5, 11).bits(1000), later);  // seed and stream are not exchangeable
}

TEST(Rng, NearbySeedsStreamsAndIndicesDoNotMeet) {
  std::set<std::uint64_t> seen;
  std::size_t drawn = 0;
  for (std::uint64_t seed = 0; seed < 13; ++seed) {
    for (std::uint64_t stream = 0; stream < 17; ++stream) {
      for (std::uint64_t index = 0; index < 101; ++index, ++drawn) {
        seen.insert(Rng(seed, stream).bits(index));
      }
    }
  }
  EXPECT_EQ(seen.size(), drawn);
}

TEST(Rng, UniformIsInTheUnitIntervalWithItsMoments) {
  const Rng rng(1, 2);
  constexpr int kDraws = 100'003;
  double sum = 0;
  double squares = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double u = rng.uniform(static_cast<std::uint64_t>(i));
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    ASSERT_EQ(std::ldexp(u, 53), std::floor(std::ldexp(u, 53)));
    sum += u;
    squares += u * u;
  }
  // Five standard errors.
  EXPECT_NEAR(sum / kDraws, 1.0 / 2, 5 * std::sqrt(1.0 / 12 / kDraws));
  EXPECT_NEAR(squares / kDraws, 1.0 / 3, 5 * std::sqrt(4.0 / 45 / kDraws));
}

TEST(Rng, NormalHasMeanZeroAndVarianceOneAndStaysWithinSix) {
  const Rng rng(1, 3);
  constexpr int kDraws = 100'003;
  double sum = 0;
  double squares = 0;
  double fourths = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double x = rng.normal(static_cast<std::uint64_t>(i));
    ASSERT_LE(std::fabs(x), 6.0);
    sum += x;
    squares += x * x;
    fourths += x * x * x * x;
  }
  EXPECT_NEAR(sum / kDraws, 0.0, 5 * std::sqrt(1.0 / kDraws));
  EXPECT_NEAR(squares / kDraws, 1.0, 5 * std::sqrt(2.0 / kDraws));
  EXPECT_NEAR(fourths / kDraws, 2.9, 5 * std::sqrt(96.0 / kDraws));  // 3 - 6 / (5 * 12)
}

TEST(Rng, BelowCoversItsRangeEvenly) {
  const Rng rng(4, 9);
  constexpr std::int64_t kValues = 7;
  constexpr int kDraws = 70'001;
  std::vector<int> count(kValues, 0);
  for (int i = 0; i < kDraws; ++i) {
    const std::int64_t x = rng.below(static_cast<std::uint64_t>(i), kValues);
    ASSERT_GE(x, 0);
    ASSERT_LT(x, kValues);
    ++count[static_cast<std::size_t>(x)];
  }
  const double expected = static_cast<double>(kDraws) / kValues;
  for (const int c : count) EXPECT_NEAR(c, expected, 5 * std::sqrt(expected));
  EXPECT_EQ(rng.below(0, 1), 0);
}

}  // namespace
}  // namespace ps
