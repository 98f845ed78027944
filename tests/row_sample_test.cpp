// Some rows of a projection: the right ones, both ends, other ones for other points.
#include "diff/isolate/row_sample.h"

#include <set>

#include <gtest/gtest.h>

namespace ps {
namespace {

// [rows, tokens, width], each cell its own number.
Tensor counted(const Shape& shape) {
  Tensor out(DType::kF32, shape);
  float next = 0;
  for (float& x : out.as<float>()) x = next++;
  return out;
}

struct Projection {
  OpInfo op{"model.layers.2.mlp.up_proj", "linear", {"model.layers.2.mlp_norm"}, {}};
  Tensor value, input;
  Projection(std::int64_t rows, std::int64_t tokens)
      : value(counted({rows, tokens, 5})), input(counted({rows, tokens, 3})) {}
  PointLookup lookup() const {
    return [this](std::string_view name) -> std::optional<TensorView> {
      if (name == op.point) return value.view();
      if (name == op.inputs[0]) return input.view();
      return std::nullopt;
    };
  }
};

std::vector<std::int64_t> tokens_of(const Projection& p, std::int64_t rows) {
  const auto some = RowSample::of(p.op, p.lookup(), rows);
  std::vector<std::int64_t> out;
  if (!some) return out;
  const TensorView value = some->value();
  for (std::int64_t t = 0; t < value.shape[1]; ++t) {
    out.push_back(static_cast<std::int64_t>(value_at(value, t * 5)) / 5);
  }
  return out;
}

TEST(RowSample, HasBothEndsAndOneOfEachPartBetween) {
  for (const std::int64_t length : {3, 4, 17, 90, 1000}) {
    for (const std::int64_t rows : {2, 3, 8, 16}) {
      const std::vector<std::int64_t> tokens = tokens_of(Projection(1, length), rows);
      if (rows >= length) {
        EXPECT_TRUE(tokens.empty());
        continue;
      }
      ASSERT_EQ(static_cast<std::int64_t>(tokens.size()), rows);
      EXPECT_EQ(tokens.front(), 0);
      EXPECT_EQ(tokens.back(), length - 1);
      for (std::size_t i = 1; i < tokens.size(); ++i) EXPECT_GT(tokens[i], tokens[i - 1]);
    }
  }
}

TEST(RowSample, OtherPointsShowOtherTokens) {
  Projection here(1, 1000), there(1, 1000);
  there.op.point = "model.layers.3.mlp.up_proj";
  EXPECT_NE(tokens_of(here, 8), tokens_of(there, 8));
  EXPECT_EQ(tokens_of(here, 8), tokens_of(here, 8));
}

TEST(RowSample, TakesTheSameTokensOfOutputsInputsAndWhatIsIgnored) {
  const Projection p(2, 31);
  const auto some = RowSample::of(p.op, p.lookup(), 4);
  ASSERT_TRUE(some);
  const PointLookup rows = some->lookup();
  const TensorView value = *rows(p.op.point), input = *rows(p.op.inputs[0]);
  EXPECT_EQ(value.shape, (Shape{2, 4, 5}));
  EXPECT_EQ(input.shape, (Shape{2, 4, 3}));
  EXPECT_FALSE(rows("model.norm"));
  Tensor ignored(DType::kU8, {2, 31, 1});
  for (std::size_t i = 0; i < 62; ++i) ignored.bytes()[i] = static_cast<std::byte>(i);
  const Tensor some_ignored = *some->rows_of(ignored);
  for (std::int64_t row = 0; row < 8; ++row) {
    const double token = value_at(value, row * 5) / 5;
    EXPECT_EQ(value_at(input, row * 3) / 3, token);
    EXPECT_EQ(value_at(some_ignored.view(), row), token);
  }
  const Tensor for_all(DType::kU8, {2, 1, 1});
  EXPECT_EQ(some->rows_of(for_all)->shape(), for_all.shape());
}

TEST(RowSample, IsOfProjectionsWhoseInputsAreThere) {
  Projection p(1, 31);
  p.op.kind = "rms_norm";
  EXPECT_FALSE(RowSample::of(p.op, p.lookup(), 4));
  p.op.kind = "linear";
  EXPECT_TRUE(RowSample::of(p.op, p.lookup(), 4));
  p.op.inputs.push_back("model.norm");
  EXPECT_FALSE(RowSample::of(p.op, p.lookup(), 4));
}

}  // namespace
}  // namespace ps
