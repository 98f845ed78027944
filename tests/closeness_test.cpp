#include "diff/compare/closeness.h"

#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

namespace ps {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

Tensor doubles(const std::vector<double>& values, Shape shape = {}) {
  if (shape.empty()) shape = {static_cast<std::int64_t>(values.size())};
  return Tensor::of<double>(DType::kF64, std::move(shape), values);
}
Closeness close(const std::vector<double>& actual, const std::vector<double>& expected) {
  const Tensor a = doubles(actual), e = doubles(expected);
  return compare(a.view(), e.view());
}

TEST(Closeness, EqualTensorsAreWithinZero) {
  const Closeness c = close({1, -2, 0, kInf, -kInf, kNan, -0.0}, {1, -2, 0, kInf, -kInf, kNan, 0});
  EXPECT_TRUE(c.same_shape);
  EXPECT_EQ(c.compared, 7);
  EXPECT_EQ(c.class_mismatches, 0);
  EXPECT_EQ(c.max_abs, 0);
  EXPECT_EQ(c.rel_l2, 0);
  EXPECT_EQ(c.worst, -1);
  EXPECT_TRUE(c.within(0));
}

TEST(Closeness, ErrorsAreMeasuredAgainstTheExpectedScale) {
  const Closeness c = close({3, 4.5, -8}, {3, 4, -6});
  EXPECT_EQ(c.max_abs, 2);
  EXPECT_EQ(c.scale, 6);
  EXPECT_EQ(c.worst, 2);
  EXPECT_DOUBLE_EQ(c.rel_l2, std::sqrt((0.25 + 4) / (9 + 16 + 36)));
  EXPECT_TRUE(c.within(2.0 / 6));
  EXPECT_FALSE(c.within(0.333));
}

TEST(Closeness, TheExpectedSideSetsTheScale) {
  EXPECT_FALSE(close({1000.0, 1.0}, {1.0, 1.0}).within(1));
  EXPECT_TRUE(close({1.0, 1.0}, {1000.0, 1.0}).within(1));
}

TEST(Closeness, ClassesComeBeforeDistances) {
  for (const auto& [a, e] : std::vector<std::pair<double, double>>{{kNan, 1},
                                                                   {1, kNan},
                                                                   {kInf, 1},
                                                                   {1, -kInf},
                                                                   {kInf, -kInf},
                                                                   {kNan, kInf},
                                                                   {-kInf, kNan}}) {
    const Closeness c = close({0, a, 900}, {0, e, 1});
    EXPECT_EQ(c.class_mismatches, 1) << a << " " << e;
    EXPECT_EQ(c.worst, 1) << "the mismatch, not the larger distance behind it";
    EXPECT_EQ(c.max_abs, 899);
    EXPECT_FALSE(c.within(kInf)) << a << " " << e;
  }
  const Closeness first = close({900, kNan, kNan}, {1, 2, 3});
  EXPECT_EQ(first.worst, 1) << "and not the distance before it";
  EXPECT_EQ(first.class_mismatches, 2);
}

TEST(Closeness, AllZeroExpectationMustBeMetExactly) {
  EXPECT_TRUE(close({0, -0.0}, {0, 0}).within(0.1));
  const Closeness c = close({0, 1e-300}, {0, 0});
  EXPECT_FALSE(c.within(0.1));
  EXPECT_EQ(c.max_abs, 1e-300);
  EXPECT_EQ(close({0, 1e-3}, {0, 0}).rel_l2, kInf);
}

TEST(Closeness, OtherShapesAreNeverClose) {
  const Tensor a = doubles({1, 2, 3, 4, 5, 6}, {2, 3}), e = doubles({1, 2, 3, 4, 5, 6}, {3, 2});
  const Closeness c = compare(a.view(), e.view());
  EXPECT_FALSE(c.same_shape);
  EXPECT_EQ(c.compared, 0);
  EXPECT_FALSE(c.within(1e9));
}

TEST(Closeness, EmptyTensorsAreClose) {
  const Tensor none(DType::kF32, {3, 0, 2});
  EXPECT_TRUE(compare(none.view(), none.view()).within(0));
}

TEST(Closeness, TypesMayDifferAsLongAsValuesAgree) {
  const std::vector<std::uint16_t> half = {0x3f80, 0xc000, 0x7f80};  // bf16: 1, -2, inf
  const Tensor a = Tensor::of<std::uint16_t>(DType::kBF16, {3}, half);
  const Tensor e = doubles({1, -2, kInf});
  EXPECT_TRUE(compare(a.view(), e.view()).within(0));
}

TEST(Closeness, CellsAreNamedByTheirIndex) {
  EXPECT_EQ(index_text({3, 5, 7}, 2 * 35 + 3 * 7 + 6), "[2,3,6]");
  EXPECT_EQ(index_text({3, 5, 7}, 0), "[0,0,0]");
  EXPECT_EQ(index_text({11}, 10), "[10]");
  const Tensor a = doubles({1, 2, 3, 0.25, 5, 6}, {2, 3}),
               e = doubles({1, 2, 3, 0.5, 5, 6}, {2, 3});
  EXPECT_EQ(cell_text(a.view(), e.view(), 3), "[1,0] is 0.25, expected 0.5");
}

}  // namespace
}  // namespace ps
