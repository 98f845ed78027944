// Masks in the forms of masks.md 4: conversions there and back, tensors that are wrong, block
// lists.
#include <cmath>
#include <functional>
#include <limits>

#include <gtest/gtest.h>

#include "core/rng.h"
#include "diff/mask/check.h"
#include "diff/mask/forms.h"
#include "diff/mask/text.h"
#include "tests/support/random_mask.h"
#include "tests/support/run.h"

namespace ps::mask {
namespace {

Program program(const std::string& text) { return value_or_die(parse_text(text, "test")); }
Mask mask_of(const std::string& text) { return value_or_die(evaluate(program(text))); }

std::vector<std::string> ids(const std::vector<Finding>& findings) {
  std::vector<std::string> out;
  for (const Finding& f : findings) out.push_back(f.id);
  return out;
}
std::string evidence(const Finding& f, const std::string& name) {
  for (const auto& [key, value] : f.evidence) {
    if (key == name) return value;
  }
  return "";
}

using Ids = std::vector<std::string>;

Reading read(const Tensor& t, const Mask& expected, ReadOptions options = {}) {
  return value_or_die(read_tensor(t.view(), expected.dims(), &expected, options));
}

TEST(MaskForms, EveryFormReadsBackTheSame) {
  for (std::uint64_t seed = 0; seed < 500; ++seed) {
    const Mask m = value_or_die(evaluate(random_program(seed)));
    const auto same = [&](const Tensor& t, ReadOptions options) {
      const Reading r = value_or_die(read_tensor(t.view(), m.dims(), nullptr, options));
      for (const Finding& f : r.findings) ASSERT_EQ(f.id, "MK024") << seed;
      ASSERT_TRUE(equal(r.mask, m)) << seed;
    };
    same(to_bool(m, false), {});
    same(to_bool(m, true), {Form::kMasked, {}});
    for (const DType dtype : {DType::kF64, DType::kF32, DType::kF16, DType::kBF16}) {
      for (const bool inf : {true, false}) same(to_additive(m, dtype, inf), {});
    }
    ASSERT_TRUE(equal(value_or_die(from_row_runs(to_row_runs(m))), m)) << seed;
    const Rng rng(seed, 3);
    const BlockSummary s = summarize(m, 1 + rng.below(0, 7), 1 + rng.below(1, 7));
    for (const EdgeRule rule : {EdgeRule::kTorch, EdgeRule::kInbounds}) {
      const BlockLists lists = block_lists(s, rule);
      ASSERT_TRUE(equal(applied(lists, m), m)) << seed;
      ASSERT_TRUE(check_block_lists(lists, m, rule).empty()) << seed;
    }
  }
}

TEST(MaskForms, LengthsAndSegmentsBecomePrograms) {
  const Dims dims{3, 2, 4, 9};
  const Program p = value_or_die(from_lengths(dims, {9, 0, 5}, {0, 3, 2}, true));
  const Mask m = value_or_die(evaluate(p));
  EXPECT_TRUE(m.at(0, 1, 0, 5));  // bottom-right: query 0 stands at 5
  EXPECT_FALSE(m.at(0, 1, 0, 6));
  EXPECT_FALSE(m.at(1, 0, 3, 4));  // no key at all
  EXPECT_FALSE(m.at(2, 0, 3, 1));
  EXPECT_TRUE(m.at(2, 0, 3, 2));
  EXPECT_FALSE(m.at(2, 0, 3, 7));
  EXPECT_FALSE(from_lengths(dims, {9, 9}, {}, false).ok());
  EXPECT_FALSE(from_lengths(dims, {9, 9, 8}, {0, 0, 2}, false).ok());

  const Mask padding =
      value_or_die(evaluate(value_or_die(from_lengths(dims, {9, 0, 5}, {0, 3, 2}, false))));
  const Lengths lengths = value_or_die(to_lengths(padding));
  EXPECT_EQ(lengths.lengths, (std::vector<std::int64_t>{9, 0, 5}));
  const auto refused = to_lengths(m);
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().line().find("batch=0 head=0 query=0 key=6"), std::string::npos);

  const Mask packed = value_or_die(evaluate(value_or_die(from_cu_seqlens(1, {0, 3, 3, 7}, true))));
  EXPECT_TRUE(equal(packed, mask_of("Q=7 KV=7\ncausal & segments(0-3, 3-7)")));
  EXPECT_FALSE(from_cu_seqlens(1, {0, 4, 3}, true).ok());

  const Mask top = value_or_die(evaluate(from_is_causal(dims, Alignment::kTopLeft)));
  const Mask bottom = value_or_die(evaluate(from_is_causal(dims, Alignment::kBottomRight)));
  EXPECT_EQ(top.count(), 3 * 2 * (1 + 2 + 3 + 4));
  EXPECT_EQ(bottom.count(), 3 * 2 * (6 + 7 + 8 + 9));
}

TEST(MaskForms, DifferenceNamesTheFirstCellAndCountsBothWays) {
  const Difference d =
      difference(mask_of("Q=5 KV=7\ncausal(1)"), mask_of("Q=5 KV=7\nwindow(1, 3)"));
  EXPECT_EQ(d.only_a, 3 + 2 + 1);  // keys two and more to the left
  EXPECT_EQ(d.only_b, 2 * 4 + 1);  // two to the right; the last query has one
  EXPECT_EQ(*d.first, (CellIndex{0, 0, 0, 2}));
}

TEST(MaskForms, AdditiveValuesAreJudgedByKind) {
  const Mask causal = mask_of("H=2 Q=4 KV=4\ncausal #future");
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const Tensor good = to_additive(causal, DType::kF32, true);
  const auto with = [&](std::size_t cell, float x) {
    Tensor t = Tensor::copy_of(good.view());
    t.as<float>()[cell] = x;
    return t;
  };
  EXPECT_EQ(ids(read(good, causal).findings), Ids{});
  const Reading nan = read(with(17, std::nanf("")), causal);
  EXPECT_EQ(ids(nan.findings), Ids{"MK020"});
  EXPECT_EQ(nan.findings[0].where, "batch=0 head=1 query=0 key=1");
  EXPECT_FALSE(nan.mask.at(0, 1, 0, 1));
  EXPECT_EQ(ids(read(with(17, kInf), causal).findings), Ids{"MK021"});
  const Reading bias = read(with(4, -1e4F), causal);
  EXPECT_EQ(ids(bias.findings), Ids{"MK022"});
  EXPECT_TRUE(bias.mask.at(0, 0, 1, 0));
  EXPECT_EQ(evidence(bias.findings[0], "range"), "[-10000,-10000]");
  EXPECT_TRUE(equal(read(with(1, -2e38F), causal).mask, causal));  // below half of the lowest

  // triu(ones) * -inf has NaN where it should attend; ones * -inf masks all.
  Tensor product(DType::kF32, {4, 4});
  for (std::size_t i = 0; i < 16; ++i) product.as<float>()[i] = (i % 4 > i / 4 ? 1.F : 0.F) * -kInf;
  const Reading r = read(product, causal);
  EXPECT_EQ(ids(r.findings), Ids{"MK020"});
  EXPECT_EQ(evidence(r.findings[0], "count"), "10");
  for (float& x : product.as<float>()) x = -kInf;
  EXPECT_EQ(ids(read(product, causal).findings), Ids{"MK024"});
}

TEST(MaskForms, NarrowedLowestAndAddedBooleansAreNamed) {
  const Mask causal = mask_of("Q=4 KV=4\ncausal");
  const Tensor lowest32 = to_additive(causal, DType::kF32, false);
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    const Reading r = read(lowest32, causal, {Form::kAuto, dtype});
    EXPECT_EQ(ids(r.findings), Ids{"MK023"});
    EXPECT_EQ(evidence(r.findings[0], "count"), "6");
    EXPECT_TRUE(equal(r.mask, causal));
  }
  EXPECT_EQ(ids(read(lowest32, causal, {Form::kAuto, DType::kF32}).findings), Ids{});
  Tensor ones(DType::kF16, {4, 4});
  for (std::size_t i = 0; i < 16; ++i) ones.as<std::uint16_t>()[i] = i % 4 <= i / 4 ? 0x3c00 : 0;
  const Reading r = read(ones, causal);
  EXPECT_EQ(ids(r.findings), Ids{"MK025"});
  EXPECT_EQ(r.mask.count(), 16);  // nothing is masked
}

TEST(MaskForms, BroadcastAccidentsAndDtypesAreNamed) {
  const Mask m = mask_of(
      "B=2 H=3 Q=4 KV=6 q_offset=2\narray s[2] = 0 1\ncausal & kv_range(lo=s) & (heads(0,1) | "
      "window(2))");
  const Tensor one_head(DType::kBool, {2, 1, 4, 6});
  EXPECT_EQ(ids(read(one_head, m).findings), Ids{"MK026"});
  const Tensor one_batch(DType::kBool, {4, 6});
  EXPECT_EQ(ids(read(one_batch, m).findings), (Ids{"MK026", "MK026"}));
  EXPECT_EQ(ids(read(Tensor(DType::kI32, {2, 3, 4, 6}), m).findings), Ids{"MK028"});
  EXPECT_EQ(ids(read(to_bool(m, false), m).findings), Ids{});
  // [S,S] with KV != Q: of the keys' size its last rows are meant, of the queries' the first
  // columns.
  const Mask cached = mask_of("Q=4 KV=6 q_offset=2\ncausal");
  const Reading last_rows = read(to_bool(mask_of("Q=6 KV=6\ncausal"), false), cached);
  EXPECT_EQ(ids(last_rows.findings), Ids{"MK026"});
  EXPECT_TRUE(equal(last_rows.mask, cached));
  const Reading first = read(to_bool(mask_of("Q=4 KV=4\ncausal"), false), cached);
  EXPECT_EQ(ids(first.findings), Ids{"MK026"});
  EXPECT_TRUE(equal(first.mask, mask_of("Q=4 KV=6\ncausal")));
  EXPECT_FALSE(read_tensor(Tensor(DType::kBool, {2, 3, 5, 6}).view(), m.dims(), &m, {}).ok());
  // HF's attention_mask: [B, KV] integers are no wrong dtype.
  const Mask padding = mask_of("B=2 Q=4 KV=6\narray s[2] = 0 1\nkv_range(lo=s)");
  Tensor hf(DType::kI64, {2, 6});
  for (std::size_t i = 0; i < 12; ++i) hf.as<std::int64_t>()[i] = i == 6 ? 0 : 1;
  const Reading r = read(hf, padding);
  EXPECT_EQ(ids(r.findings), Ids{});
  EXPECT_TRUE(equal(r.mask, padding));
}

TEST(MaskForms, BadRowRunsAreRefused) {
  const RowRuns good = to_row_runs(mask_of("Q=3 KV=5\nwindow(1, 1)"));
  for (const auto& change : std::vector<std::function<void(RowRuns&)>>{
           [](RowRuns& r) { r.runs[1].second = 6; }, [](RowRuns& r) { r.runs[1].first = 4; },
           [](RowRuns& r) { r.runs[0] = {-1, 2}; }, [](RowRuns& r) { r.begin.pop_back(); },
           [](RowRuns& r) { r.begin[1] = 7; }, [](RowRuns& r) { r.begin[2] = -3; }}) {
    RowRuns bad = good;
    change(bad);
    EXPECT_FALSE(from_row_runs(bad).ok());
  }
  EXPECT_TRUE(from_row_runs(good).ok());
}

class MaskBlockLists : public ::testing::Test {
 protected:
  // 10 x 13 in tiles of 4 x 5: edge tiles on both axes.
  const Mask mask_ =
      mask_of("H=2 Q=10 KV=13\n(causal(6) | heads(1)) & !(kv_range(5, 10) & q_range(4, 8))");
  const BlockLists lists_ = block_lists(summarize(mask_, 4, 5));

  std::vector<Finding> after(const std::function<void(BlockLists&)>& change) const {
    BlockLists l = lists_;
    change(l);
    return check_block_lists(l, mask_);
  }
};

TEST_F(MaskBlockLists, EveryPlantedFaultHasItsCode) {
  EXPECT_EQ(ids(after([](BlockLists&) {})), Ids{});
  // Head 0, query block 0: key block 0 full, 1 and 2 partial.
  ASSERT_EQ(lists_.full.num[0], 1);
  ASSERT_EQ(lists_.partial.num[0], 1);
  const std::int32_t partial = lists_.partial.indices[0];
  const auto no_transposed = [](BlockLists& l) {
    l.q_partial = {};
    l.q_full = {};
  };
  auto found = after([&](BlockLists& l) {  // the partial tile is called full
    no_transposed(l);
    l.full.num[0] = 2;
    l.full.indices[1] = partial;
    l.partial.num[0] = 0;
  });
  EXPECT_EQ(ids(found), Ids{"MK030"});
  EXPECT_EQ(found[0].where, "batch=0 head=0 query block=0 key block=" + std::to_string(partial));
  EXPECT_EQ(ids(after([&](BlockLists& l) {
              no_transposed(l);
              l.partial.num[0] = 0;
            })),
            Ids{"MK031"});
  for (const std::int32_t bad : {-1, 3, 99}) {
    EXPECT_EQ(ids(after([&](BlockLists& l) {
                no_transposed(l);
                l.partial.indices[0] = bad;
              })),
              (Ids{"MK032", "MK031"}))
        << bad;
  }
  EXPECT_EQ(ids(after([&](BlockLists& l) {
              no_transposed(l);
              l.full.num[0] = 4;
            })),
            (Ids{"MK032", "MK031"}));
  // Head 1, last query block: all true, but it reaches over the end.
  EXPECT_EQ(ids(check_block_lists(block_lists(summarize(mask_, 4, 5), EdgeRule::kInbounds), mask_)),
            Ids{"MK033"});
  EXPECT_EQ(ids(after([&](BlockLists& l) { --l.q_full.num[0]; })), Ids{"MK034"});
  EXPECT_EQ(ids(after([&](BlockLists& l) { --l.q_partial.num[1]; })), Ids{"MK034"});
  // Filler is never read.
  EXPECT_EQ(ids(after([&](BlockLists& l) { l.full.indices[2] = 1 << 20; })), Ids{});
}

TEST_F(MaskBlockLists, WhatWrongListsComputeIsKnown) {
  BlockLists l = lists_;
  l.partial.num[0] = 0;  // lost: its pairs are hidden
  const Difference d = difference(applied(l, mask_), mask_);
  EXPECT_EQ(d.only_a, 0);
  EXPECT_GT(d.only_b, 0);
}

}  // namespace
}  // namespace ps::mask
