// What no number may say: classes, zeros over zeros, constants, ignored cells, sums out of range.
#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "core/float_bits.h"
#include "diff/compare/compare.h"

namespace ps {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kLow = std::numeric_limits<float>::lowest();

Tensor floats(const std::vector<float>& values) {
  return Tensor::of<float>(DType::kF32, {static_cast<std::int64_t>(values.size())}, values);
}
Comparison exactly(const Tensor& a, const Tensor& b) {
  return compare(a.view(), b.view(), {BoundSpec::exact()});
}
Comparison loosely(const Tensor& a, const Tensor& b) {
  return compare(a.view(), b.view(), {BoundSpec::formula(1e30, 1e30)});
}

TEST(CompareClasses, EachIsMetByItsLikeAlone) {
  const float all[] = {kNan, kInf, -kInf, kLow, 1.0f};
  for (int i = 0; i < 5; ++i) {
    for (int j = 0; j < 5; ++j) {
      // Somewhere in the middle of what is otherwise equal, and under no tolerance at all.
      std::vector<float> a(131, 0.5f), b(131, 0.5f);
      a[77] = all[i];
      b[77] = all[j];
      const Comparison c = loosely(floats(a), floats(b));
      EXPECT_EQ(c.ok(), i == j) << i << " " << j;
      EXPECT_EQ(c.class_mismatches, i == j ? 0 : 1) << i << " " << j;
      EXPECT_EQ(c.first_wrong(), i == j ? -1 : 77);
      EXPECT_EQ(c.nan_on_both, i == 0 && j == 0 ? 1 : 0);
      EXPECT_EQ(c.candidate.nan, i == 0 ? 1 : 0);
      EXPECT_EQ(c.expected.neg_inf, j == 2 ? 1 : 0);
      EXPECT_EQ(c.expected.lowest, j == 3 ? 1 : 0);
    }
  }
}

TEST(CompareClasses, NumbersNearTheLowestAreNumbers) {
  const Comparison c = loosely(floats({kLow, -65504.0f}), floats({0.9f * kLow, -65000.0f}));
  EXPECT_TRUE(c.ok());
  EXPECT_EQ(c.class_cells, 0);
  EXPECT_GT(c.max_abs, 1e37);
}

TEST(CompareClasses, LowestOfTwoTypesIsTheSameAndHidesNoError) {
  Tensor a = Tensor::of<std::uint16_t>(
      DType::kBF16, {3},
      std::vector<std::uint16_t>{0xff7f, float_to_bf16(1.0f), float_to_bf16(2.0f)});
  const Comparison c = exactly(a, floats({kLow, 1.0f, 4.0f}));
  EXPECT_EQ(c.class_mismatches, 0);
  EXPECT_EQ(c.class_cells, 1);
  EXPECT_EQ(c.max_abs, 2);
  EXPECT_NEAR(c.rel_l2, 2 / std::sqrt(17.0), 1e-12) << "the lowest value is not in the norm";
}

TEST(CompareClasses, PccOfTwiceTheSameIsNoExcuse) {
  std::vector<float> a, b;
  for (int i = 0; i < 100; ++i) {
    b.push_back(std::sin(static_cast<float>(i)));
    a.push_back(2 * b.back());
  }
  const Comparison c =
      compare(floats(a).view(), floats(b).view(), {BoundSpec::relative(1e-3, 1e-2)});
  EXPECT_FALSE(c.ok());
  EXPECT_NEAR(c.cosine, 1, 1e-12);
  EXPECT_NEAR(c.rel_l2, 1, 1e-6);
  ASSERT_TRUE(c.regression.defined);
  EXPECT_NEAR(c.regression.slope, 2, 1e-6);
  EXPECT_NEAR(c.regression.r2, 1, 1e-6);
}

TEST(CompareClasses, ZerosAndConstantsAreDefined) {
  const std::vector<float> zeros(67, 0.0f), ones(67, 1.0f);
  const Comparison nothing = exactly(floats(zeros), floats(zeros));
  EXPECT_TRUE(nothing.ok());
  EXPECT_EQ(nothing.rel_l2, 0);
  EXPECT_EQ(nothing.cosine, 1);
  EXPECT_FALSE(nothing.regression.defined);
  const Comparison lost = exactly(floats(zeros), floats(ones));
  EXPECT_EQ(lost.cosine, 0);
  EXPECT_EQ(lost.rel_l2, 1);
  const Comparison born = exactly(floats(ones), floats(zeros));
  EXPECT_EQ(born.rel_l2, HUGE_VAL);
  EXPECT_EQ(born.cosine, 0);
  EXPECT_FALSE(
      compare(floats(ones).view(), floats(zeros).view(), {BoundSpec::relative(1, 1)}).ok());
  EXPECT_FALSE(exactly(floats(ones), floats(ones)).regression.defined);
  const Comparison minus = exactly(floats({-0.0f, 1.0f}), floats({0.0f, 1.0f}));
  EXPECT_TRUE(minus.ok());
  EXPECT_FALSE(minus.bit_equal);
  EXPECT_EQ(minus.max_ulp, 0);
  const Comparison empty = exactly(floats({}), floats({}));
  EXPECT_TRUE(empty.ok());
  EXPECT_EQ(empty.compared, 0);
}

TEST(CompareClasses, SubnormalsAreCountedAndFlushingIsSeen) {
  const Comparison c =
      loosely(floats({0.0f, 1e-40f, 1.0f, 0.0f}), floats({1e-40f, 2e-40f, 1.0f, 0.0f}));
  EXPECT_EQ(c.expected.subnormal, 2);
  EXPECT_EQ(c.candidate.subnormal, 1);
  EXPECT_EQ(c.flushed, 1);
}

TEST(CompareClasses, ErrorsBelowAllBucketsAreErrors) {
  std::vector<float> a(131, 0.5f), b(131, 0.5f);
  a[5] = 1e-40f;
  b[5] = 0.0f;
  a[6] = b[6] = 3e-39f;
  a[70] = 0x1p-110f;
  b[70] = std::nextafter(a[70], 1.0f);
  const Comparison c = exactly(floats(a), floats(b));
  EXPECT_EQ(c.histogram[0], 129);
  EXPECT_EQ(c.over, 2);
  EXPECT_EQ(c.max_abs_at, 5);
}

TEST(CompareClasses, SumsOutOfRangeOfDoubleAreStillRight) {
  const auto doubles = [](std::vector<double> v) {
    return Tensor::of<double>(DType::kF64, {static_cast<std::int64_t>(v.size())}, v);
  };
  const Comparison big = exactly(doubles({1.1e200, 1e200}), doubles({1e200, 1e200}));
  EXPECT_NEAR(big.rel_l2, 0.1 / std::sqrt(2.0), 1e-9);
  EXPECT_NEAR(big.rms_expected, 1e200, 1e190);
  const Comparison small = exactly(doubles({1.1e-200, 1e-200}), doubles({1e-200, 1e-200}));
  EXPECT_NEAR(small.rel_l2, 0.1 / std::sqrt(2.0), 1e-9);
  EXPECT_FALSE(small.ok());
}

TEST(CompareClasses, IntegersBeyondDoubleAreToldApart) {
  const std::vector<std::int64_t> x = {(std::int64_t{1} << 60) + 1, 5},
                                  y = {std::int64_t{1} << 60, 5};
  const Tensor a = Tensor::of<std::int64_t>(DType::kI64, {2}, x);
  const Tensor b = Tensor::of<std::int64_t>(DType::kI64, {2}, y);
  EXPECT_FALSE(exactly(a, b).ok());
  EXPECT_EQ(exactly(a, b).over, 1);
  const std::vector<std::uint64_t> high = {~std::uint64_t{0}, 0}, low = {~std::uint64_t{0} - 1, 0};
  EXPECT_FALSE(exactly(Tensor::of<std::uint64_t>(DType::kU64, {2}, high),
                       Tensor::of<std::uint64_t>(DType::kU64, {2}, low))
                   .ok());
}

TEST(CompareClasses, IgnoredCellsAreCountedAndNothingElse) {
  const Shape shape = {3, 7, 181};
  const auto n = static_cast<std::size_t>(count_of(shape));
  std::vector<float> values(n);
  for (std::size_t i = 0; i < n; ++i) values[i] = std::cos(static_cast<float>(i));
  const Tensor b = Tensor::of<float>(DType::kF32, shape, values);
  // Rows (0, 2), (1, 5), (2, 0) hold rubbish, and are marked.
  Tensor marks(DType::kU8, {3, 7, 1});
  for (const std::size_t row : {2u, 12u, 14u}) {
    marks.as<std::uint8_t>()[row] = 1;
    for (std::size_t i = 0; i < 181; ++i) values[row * 181 + i] = i % 2 == 0 ? kNan : 1e20f;
  }
  Tensor a = Tensor::of<float>(DType::kF32, shape, values);
  const TensorView view = marks.view();
  CompareOptions options{BoundSpec::exact(), &view};
  const Comparison c = compare(a.view(), b.view(), options);
  EXPECT_TRUE(c.ok());
  EXPECT_TRUE(c.bit_equal);
  EXPECT_EQ(c.ignored, 3 * 181);
  EXPECT_EQ(c.compared, static_cast<std::int64_t>(n) - 3 * 181);
  EXPECT_EQ(c.candidate.nan, 0);
  EXPECT_EQ(c.histogram[0], c.compared);
  a.as<float>()[15 * 181] += 1;  // the first cell behind the last marked row
  EXPECT_EQ(compare(a.view(), b.view(), options).first_over, 15 * 181);
}

TEST(CompareClasses, DefaultBoundIsTheSpecs) {
  const BoundSpec f32 = default_bound(DType::kF32, DType::kF64, 2);
  EXPECT_NEAR(f32.l2_limit, 3.3e-6, 0.01e-6);
  EXPECT_EQ(f32.cell_limit, 8 * f32.l2_limit);
  EXPECT_EQ(default_bound(DType::kBF16, DType::kF32, 0).l2_limit, 3 * 0x1p-8);
  EXPECT_EQ(default_bound(DType::kBool, DType::kI64, 3).rtol, 0);
  // The norm alone can be over: every cell is within its limit, and the whole is not.
  const std::vector<float> b(1000, 1.0f), a(1000, 1.0f + 0x1p-17f);
  const Comparison c =
      compare(floats(a).view(), floats(b).view(), {default_bound(DType::kF32, DType::kF32, 0)});
  EXPECT_EQ(c.over, 0);
  EXPECT_GT(c.l2_ratio, 1);
  EXPECT_FALSE(c.ok());
  EXPECT_GE(c.first_wrong(), 0);
}

}  // namespace
}  // namespace ps
