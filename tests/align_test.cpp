// Layouts that match_shape() may read as another, those it must refuse, and which cells of a point
// nobody should judge.
#include <numeric>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "core/trace.h"
#include "diff/align/ignored_cells.h"
#include "diff/align/pairing.h"
#include "diff/align/shape_match.h"
#include "support/temp_dir.h"

namespace ps {
namespace {

Tensor counting(const Shape& shape) {
  Tensor out(DType::kI32, shape);
  std::iota(out.as<std::int32_t>().begin(), out.as<std::int32_t>().end(), 0);
  return out;
}

std::optional<ShapeMatch> match(const char* point, const Tensor& candidate, const Shape& expected) {
  static Tensor other;
  other = Tensor(DType::kI32, expected);
  return match_shape(point, candidate.view(), other.view());
}

TEST(MatchShape, EqualShapesNeedNoWord) {
  const Tensor t = counting({2, 3});
  const auto m = match("model.norm", t, {2, 3});
  ASSERT_TRUE(m.has_value());
  EXPECT_EQ(m->what, "");
  EXPECT_EQ(m->view.bytes.data(), t.view().bytes.data());
}

TEST(MatchShape, LeadingOnesAndFoldedReplicasAreReadInPlace) {
  const Tensor leading = counting({1, 1, 6, 5, 7});
  const auto a = match("model.norm", leading, {6, 5, 7});
  ASSERT_TRUE(a.has_value());
  EXPECT_NE(a->what.find("leading axes of size 1"), std::string::npos);
  EXPECT_EQ(a->view.bytes.data(), leading.view().bytes.data());
  const Tensor unfolded = counting({2, 3, 5, 7});  // [P,B,S,h]
  const auto b = match("model.norm", unfolded, {6, 5, 7});
  ASSERT_TRUE(b.has_value());
  EXPECT_NE(b->what.find("folded"), std::string::npos);
  EXPECT_TRUE(match("model.norm", counting({6, 5, 7}), {2, 3, 5, 7}).has_value());
  EXPECT_TRUE(match("model.layers.0.self_attn:context", counting({6, 5, 4, 7}), {6, 5, 28}));
}

TEST(MatchShape, OtherSizesOfTheSameCountAreRefused) {
  EXPECT_FALSE(match("weird", counting({6, 4}), {8, 3}));
  EXPECT_FALSE(match("model.norm", counting({4, 6, 5}), {3, 8, 5}));
  EXPECT_FALSE(match("model.norm", counting({2, 6, 5}), {2, 5, 5}));
}

TEST(MatchShape, PermutedAxesAreFoundWhereOneWayFits) {
  const Tensor t = counting({2, 7, 3, 4});  // [B,S,H,D] for [B,H,S,D]
  const auto m = match("model.layers.0.self_attn:q_rope", t, {2, 3, 7, 4});
  ASSERT_TRUE(m.has_value());
  EXPECT_NE(m->what.find("0,2,1,3"), std::string::npos) << m->what;
  for (std::int64_t b = 0; b < 2; ++b) {
    for (std::int64_t h = 0; h < 3; ++h) {
      for (std::int64_t s = 0; s < 7; ++s) {
        for (std::int64_t d = 0; d < 4; ++d) {
          EXPECT_EQ(value_at(m->view, ((b * 3 + h) * 7 + s) * 4 + d),
                    static_cast<double>(((b * 7 + s) * 3 + h) * 4 + d));
        }
      }
    }
  }
  // Two axes of one size: two ways, so none.
  EXPECT_FALSE(match("model.layers.0.self_attn:q_rope", counting({3, 7, 2, 3}), {3, 3, 7, 2}));
  EXPECT_FALSE(match("weird", counting({2, 7, 3, 4}), {2, 3, 7, 4}));
}

TEST(MatchShape, OneMaskForAllIsRepeatedAndNothingElseIs) {
  const Tensor mask = counting({1, 1, 5, 9});
  const auto m = match("model:mask", mask, {4, 3, 5, 9});
  ASSERT_TRUE(m.has_value());
  EXPECT_NE(m->what.find("repeated"), std::string::npos);
  for (std::int64_t i = 0; i < 4 * 3 * 45; ++i) EXPECT_EQ(value_at(m->view, i), i % 45);
  EXPECT_FALSE(match("model.norm", counting({1, 5, 9}), {4, 5, 9}));
  EXPECT_FALSE(match("lm_head", counting({2, 5, 9}), {2, 3, 9}));
  // The other way round, and one axis on each side: trace.md allows either.
  const auto written_out = match("model:mask", counting({4, 3, 5, 9}), {4, 1, 5, 9});
  ASSERT_TRUE(written_out.has_value());
  EXPECT_EQ(written_out->expected.shape, (Shape{4, 3, 5, 9}));
  EXPECT_EQ(written_out->view.shape, (Shape{4, 3, 5, 9}));
  const auto both = match("model:mask", counting({1, 3, 5, 9}), {4, 1, 5, 9});
  ASSERT_TRUE(both.has_value());
  EXPECT_EQ(both->expected.shape, (Shape{4, 3, 5, 9}));
  EXPECT_FALSE(match("model:mask", counting({4, 3, 5, 9}), {4, 2, 5, 9}));
}

TEST(MatchShape, LogitsOfTheLastPositionMeetTheLastPosition) {
  const Tensor all = counting({2, 5, 3}), last = counting({2, 1, 3});
  const auto a = match_shape("lm_head", last.view(), all.view());
  ASSERT_TRUE(a.has_value());
  EXPECT_EQ(a->expected.shape, (Shape{2, 1, 3}));
  EXPECT_EQ(value_at(a->expected, 0), 12);
  EXPECT_EQ(value_at(a->expected, 5), 29);
  const auto b = match_shape("lm_head", all.view(), last.view());
  ASSERT_TRUE(b.has_value());
  EXPECT_EQ(value_at(b->view, 3), 27);
}

// A trace of one step: 2 samples of 3 tokens, the first padded on the left, and a mask.
class IgnoredCellsTest : public testing::Test {
 protected:
  TraceStep step(bool with_mask) {
    auto writer = SafetensorsWriter::create(dir_ / "t.safetensors");
    EXPECT_TRUE(writer.ok());
    const std::vector<std::int64_t> ids = {0, 5, 6, 7, 8, 9}, real = {0, 1, 1, 1, 1, 1};
    EXPECT_TRUE(
        writer->add("input_ids", Tensor::of<std::int64_t>(DType::kI64, {2, 3}, ids).view()).ok());
    EXPECT_TRUE(
        writer->add("attention_mask", Tensor::of<std::int64_t>(DType::kI64, {2, 3}, real).view())
            .ok());
    if (with_mask) {
      Tensor mask(DType::kBool, {2, 1, 3, 3});
      for (std::uint8_t& cell : mask.as<std::uint8_t>()) cell = 1;
      for (std::size_t k = 0; k < 3; ++k)
        mask.as<std::uint8_t>()[9 + 3 + k] = 0;  // sample 1, query 1
      EXPECT_TRUE(writer->add("model:mask", mask.view()).ok());
    }
    EXPECT_TRUE(writer->close().ok());
    TraceStep out;
    out.tensors = std::make_shared<const SafetensorsFile>(
        std::move(SafetensorsFile::open(dir_ / "t.safetensors")).value());
    return out;
  }
  static std::string marks(const std::optional<Tensor>& t) {
    if (!t) return "none";
    std::string text = to_string(t->shape()) + " ";
    for (const std::uint8_t m : t->view().as<std::uint8_t>()) text += m != 0 ? 'x' : '.';
    return text;
  }
  TempDir dir_;
};

TEST_F(IgnoredCellsTest, PaddingRowsOfEveryReplicaAndPaddingSlots) {
  const IgnoredCells cells(step(false));
  EXPECT_EQ(cells.batch(), 2);
  EXPECT_EQ(marks(cells.marks_for("model.norm", {4, 3, 8})), "[4,3,1] x.....x.....");
  EXPECT_EQ(marks(cells.marks_for("model.layers.0.self_attn:q_rope", {4, 5, 3, 2})),
            "[4,1,3,1] x.....x.....");
  // Two slots of prefix come before the padding token's.
  EXPECT_EQ(marks(cells.marks_for("model.layers.0.self_attn:k_cache", {2, 1, 5, 4})),
            "[2,1,5,1] ..x.......");
  EXPECT_EQ(marks(cells.marks_for("lm_head", {2, 1, 11})), "none");
  EXPECT_EQ(marks(cells.marks_for("weird", {4, 3, 8})), "none");
}

TEST_F(IgnoredCellsTest, RowsThatSeeNoKeyAreIgnoredFromTheFirstAttentionOn) {
  const IgnoredCells cells(step(true));
  EXPECT_EQ(cells.empty_rows(), 1);
  EXPECT_EQ(marks(cells.marks_for("model.layers.0.self_attn.q_proj", {2, 3, 8})), "[2,3,1] x.....");
  EXPECT_EQ(marks(cells.marks_for("model:mask", {2, 1, 3, 3})), "[2,1,3,1] x.....");
  EXPECT_EQ(marks(cells.marks_for("model.layers.0.self_attn:probs", {2, 5, 3, 3})),
            "[2,1,3,1] x...x.");
  EXPECT_EQ(marks(cells.marks_for("model.layers.1.input_layernorm", {2, 3, 8})), "[2,3,1] x...x.");
  EXPECT_EQ(marks(cells.marks_for("lm_head", {2, 3, 11})), "[2,3,1] x...x.");
}

}  // namespace
}  // namespace ps
