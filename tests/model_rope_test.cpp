// RoPE frequencies against another writing of the formulas, and against what must hold whatever the
// formula: bounds, monotony, no jump where one rule meets the next.
#include <cmath>

#include <gtest/gtest.h>

#include "model/rope_frequencies.h"

namespace ps {
namespace {

Rope rope_of(RopeKind kind, double theta, double factor) {
  Rope rope;
  rope.kind = kind;
  rope.theta = theta;
  rope.factor = factor;
  return rope;
}

double plain(double theta, std::int64_t dim, std::size_t j) {
  return std::exp(-std::log(theta) * 2.0 * static_cast<double>(j) / static_cast<double>(dim));
}

TEST(RopeFrequencies, DefaultAndLinearArePowersOfTheta) {
  const Rope rope = rope_of(RopeKind::kDefault, 12345.0, 1);
  const Rope linear = rope_of(RopeKind::kLinear, 12345.0, 2.5);
  for (const std::int64_t dim : {2, 12, 128}) {
    const RopeFrequencies a = rope_frequencies(rope, dim, 512),
                          b = rope_frequencies(linear, dim, 512);
    ASSERT_EQ(a.inverse.size(), static_cast<std::size_t>(dim / 2));
    EXPECT_EQ(a.inverse[0], 1.f);
    for (std::size_t j = 0; j < a.inverse.size(); ++j) {
      EXPECT_NEAR(a.inverse[j] / plain(12345.0, dim, j), 1, 2e-7);
      EXPECT_NEAR(b.inverse[j] * 2.5 / plain(12345.0, dim, j), 1, 2e-7);
    }
    EXPECT_EQ(a.attention_factor, 1);
    EXPECT_EQ(b.attention_factor, 1);
  }
}

// Llama 3.1's own numbers: 128 channels, so that all three zones are met.
TEST(RopeFrequencies, Llama3KeepsShortWavesStretchesLongOnesAndBlendsBetween) {
  Rope rope = rope_of(RopeKind::kLlama3, 500000.0, 8);
  rope.low_freq_factor = 1;
  rope.high_freq_factor = 4;
  rope.original_max_position = 8192;
  const RopeFrequencies out = rope_frequencies(rope, 128, 131072);
  int kept = 0, stretched = 0, blended = 0;
  for (std::size_t j = 0; j < 64; ++j) {
    const double f = plain(500000.0, 128, j);
    const double turns = 8192 * f / (2 * 3.14159265358979323846);  // over the original length
    double share = (turns - 1) / (4 - 1);                          // of the unstretched frequency
    share < 0 ? ++stretched : (share > 1 ? ++kept : ++blended);
    share = std::min(1.0, std::max(0.0, share));
    EXPECT_NEAR(out.inverse[j] / (f * share + f / 8 * (1 - share)), 1, 3e-7) << j;
  }
  EXPECT_GE(blended, 3);
  EXPECT_GT(kept, 0);
  EXPECT_GT(stretched, 0);
}

TEST(RopeFrequencies, YarnRampsFromTheFirstToTheLastChannelThatNeedsIt) {
  const Rope rope = rope_of(RopeKind::kYarn, 10000.0, 4);
  const RopeFrequencies out = rope_frequencies(rope, 64, 4096);
  // Channel i turns 4096 f_i / 2 pi times; 32 turns and more stay, 1 turn and less are divided
  // by 4.
  const auto channel = [](double turns) {
    return 32 * std::log(4096 / (turns * 2 * 3.14159265358979323846)) / std::log(10000.0);
  };
  const double low = std::floor(channel(32)), high = std::ceil(channel(1));
  for (std::size_t j = 0; j < 32; ++j) {
    const double f = plain(10000.0, 64, j), at = static_cast<double>(j);
    const double share = at <= low ? 0 : (at >= high ? 1 : (at - low) / (high - low));
    EXPECT_NEAR(out.inverse[j] / (f * (1 - share) + f / 4 * share), 1, 3e-7) << j;
  }
  EXPECT_NEAR(out.attention_factor, 0.1 * std::log(4.0) + 1, 1e-15);
}

TEST(RopeFrequencies, YarnTakesItsFactorFromTheLengthsWhereTheOriginalIsGiven) {
  Rope rope = rope_of(RopeKind::kYarn, 10000.0, 99);
  rope.original_max_position = 1024;
  EXPECT_NEAR(rope_frequencies(rope, 32, 8192).attention_factor, 0.1 * std::log(8.0) + 1, 1e-15);
  rope.attention_factor = 1.25;
  EXPECT_EQ(rope_frequencies(rope, 32, 8192).attention_factor, 1.25);
  rope.attention_factor.reset();
  rope.mscale = 0.707;
  rope.mscale_all_dim = 1.4;
  EXPECT_NEAR(rope_frequencies(rope, 32, 8192).attention_factor,
              (0.0707 * std::log(8.0) + 1) / (0.14 * std::log(8.0) + 1), 1e-15);
  rope.original_max_position = 8192;  // nothing to stretch
  EXPECT_EQ(rope_frequencies(rope, 32, 8192).attention_factor, 1);
}

TEST(RopeFrequencies, YarnWithoutTruncationRampsBetweenFractions) {
  const Rope cut = rope_of(RopeKind::kYarn, 10000.0, 4);
  Rope rope = cut;
  rope.truncate = false;
  EXPECT_NE(rope_frequencies(rope, 64, 4096).inverse, rope_frequencies(cut, 64, 4096).inverse);
  for (const float f : rope_frequencies(rope, 64, 4096).inverse) EXPECT_GT(f, 0.f);
}

}  // namespace
}  // namespace ps
