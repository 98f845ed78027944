// 10,000 random programs: the plain recursion over cells against run lists, tiles, block summaries
// and the written forms; and the laws of set algebra on run lists.
#include <set>

#include <gtest/gtest.h>

#include "core/rng.h"
#include "diff/mask/evaluate.h"
#include "diff/mask/mask.h"
#include "diff/mask/text.h"
#include "diff/mask/tiles.h"
#include "tests/support/random_mask.h"
#include "tests/support/run.h"

namespace ps::mask {
namespace {

constexpr std::uint64_t kPrograms = 10000;

// Cells by the plain recursion, row-major [B,H,Q,KV].
std::vector<bool> cells_of(const Program& p) {
  std::vector<bool> out;
  for (std::int64_t b = 0; b < p.dims.B; ++b) {
    for (std::int64_t h = 0; h < p.dims.H; ++h) {
      for (std::int64_t i = 0; i < p.dims.Q; ++i) {
        for (std::int64_t j = 0; j < p.dims.KV; ++j) out.push_back(allowed(p, b, h, i, j));
      }
    }
  }
  return out;
}

Mask dense_of(const Program& p, const std::vector<bool>& cells) {
  return mask_from_cells(p.dims,
                         [&](std::int64_t i) { return cells[static_cast<std::size_t>(i)]; });
}

void collect(const Node& node, std::set<Op>& ops) {
  ops.insert(node.op);
  for (const Node& arg : node.args) collect(arg, ops);
}

// The invariants that every Bands promises.
std::string broken(const Bands& plane, std::int64_t rows, std::int64_t columns) {
  if (plane.begin() != 0 || plane.end() != rows) return "rows are missing";
  for (std::int64_t i = 0; i < rows; ++i) {
    std::int64_t free = -1;
    for (const auto& [lo, hi] : plane.row(i)) {
      if (lo <= free || hi <= lo || hi > columns || lo < 0) return "row " + std::to_string(i);
      free = hi;
    }
  }
  return "";
}

TEST(MaskProperty, RunListsHoldExactlyTheCellsOfTheRecursion) {
  std::int64_t bands = 0, rows = 0, mixed = 0;
  std::set<Op> ops;
  for (std::uint64_t seed = 0; seed < kPrograms; ++seed) {
    const Program p = random_program(seed);
    ok_or_die(validate(p, "random"));
    const std::vector<bool> cells = cells_of(p);
    const Mask runs = value_or_die(evaluate(p));
    std::size_t at = 0;
    std::int64_t count = 0;
    for (std::int64_t b = 0; b < p.dims.B; ++b) {
      for (std::int64_t h = 0; h < p.dims.H; ++h) {
        const Bands& plane = runs.plane(b, h);
        ASSERT_EQ(broken(plane, p.dims.Q, p.dims.KV), "") << seed << " " << program_json(p);
        bands += static_cast<std::int64_t>(plane.size());
        rows += p.dims.Q;
        for (std::int64_t i = 0; i < p.dims.Q; ++i) {
          for (std::int64_t j = 0; j < p.dims.KV; ++j, ++at) {
            count += cells[at] ? 1 : 0;
            ASSERT_EQ(plane.at(i, j), cells[at]) << seed << " at " << b << "," << h << "," << i
                                                 << "," << j << " " << program_json(p);
          }
        }
      }
    }
    ASSERT_EQ(runs.count(), count) << seed;
    mixed += count > 0 && count < static_cast<std::int64_t>(cells.size()) ? 1 : 0;
    collect(p.expr, ops);
    ASSERT_TRUE(equal(runs, dense_of(p, cells))) << seed;
  }
  EXPECT_GT(mixed, kPrograms / 3);           // neither empty nor full
  EXPECT_EQ(ops.size(), op_table().size());  // every op was met
  EXPECT_LT(bands, rows / 2);                // the compact form is in fact compact
}

TEST(MaskProperty, NoTileIsUnsoundAndSummariesAreExact) {
  std::int64_t decided = 0, tiles = 0;
  for (std::uint64_t seed = 0; seed < kPrograms; ++seed) {
    const Program p = random_program(seed);
    const std::vector<bool> cells = cells_of(p);
    const Rng rng(seed, 7);
    const std::int64_t bq = 1 + rng.below(0, 9), bk = 1 + rng.below(1, 9);
    const BlockSummary s = summarize(value_or_die(evaluate(p)), bq, bk);
    TileClassifier classifier(p);
    std::size_t at = 0;
    for (std::int64_t plane = 0; plane < p.dims.B * p.dims.H; ++plane) {
      for (std::int64_t r = 0; r < s.nq; ++r) {
        for (std::int64_t c = 0; c < s.nk; ++c, ++at, ++tiles) {
          const Tile t{plane / p.dims.H, plane % p.dims.H,
                       r * bq,           std::min((r + 1) * bq, p.dims.Q) - 1,
                       c * bk,           std::min((c + 1) * bk, p.dims.KV) - 1};
          std::int64_t have = 0;
          for (std::int64_t i = t.i0; i <= t.i1; ++i) {
            for (std::int64_t j = t.j0; j <= t.j1; ++j) {
              have +=
                  cells[static_cast<std::size_t>((plane * p.dims.Q + i) * p.dims.KV + j)] ? 1 : 0;
            }
          }
          const std::int64_t real = (t.i1 - t.i0 + 1) * (t.j1 - t.j0 + 1);
          const Fill fill = classifier.classify(t);
          ASSERT_TRUE(fill != Fill::kFull || have == real) << seed << " " << program_json(p);
          ASSERT_TRUE(fill != Fill::kEmpty || have == 0) << seed << " " << program_json(p);
          decided += fill != Fill::kUnknown ? 1 : 0;
          ASSERT_EQ(s.inbounds[at], have == 0 ? 0 : have == real ? 2 : 1) << seed;
          ASSERT_EQ(s.torch[at], have == 0 ? 0 : have == bq * bk ? 2 : 1) << seed;
        }
      }
    }
  }
  EXPECT_GT(decided, tiles / 4);
}

TEST(MaskProperty, WrittenJsonReadsBackTheSame) {
  for (std::uint64_t seed = 0; seed < kPrograms; ++seed) {
    const Program p = random_program(seed);
    const std::string text = program_json(p);
    const Result<Program> again = parse_program_text(text, "again");
    ASSERT_TRUE(again.ok()) << again.error().line() << "\n" << text;
    ASSERT_EQ(*again, p) << text;
  }
}

TEST(MaskProperty, WrittenTextReadsBackTheSame) {
  for (std::uint64_t seed = 0; seed < kPrograms; ++seed) {
    const Program p = random_program(seed);
    const std::string text = text_of(p);
    const Result<Program> again = parse_text(text, "again");
    ASSERT_TRUE(again.ok()) << again.error().line() << "\n" << text;
    ASSERT_EQ(*again, p) << text;
  }
}

TEST(MaskProperty, SetAlgebraKeepsItsLaws) {
  for (std::uint64_t seed = 0; seed < kPrograms / 4; ++seed) {
    Program p = random_program(seed);
    const Mask a = value_or_die(evaluate(p));
    // Two more masks of the same size: shifted and mixed with plain ones.
    Node shift{Op::kShift, "", {{{}, 1}, {{}, -2}}, {}, {}, {}, -1, {p.expr}};
    const Mask b = value_or_die(evaluate(p, shift));
    Node causal{Op::kCausal, "", {{{}, 1}}, {}, {}, {}, -1, {}};
    const Mask c = value_or_die(evaluate(p, causal));
    const auto land = [](const Mask& x, const Mask& y) { return combine(x, y, SetOp::kAnd); };
    const auto lor = [](const Mask& x, const Mask& y) { return combine(x, y, SetOp::kOr); };
    ASSERT_TRUE(equal(complement(complement(a)), a)) << seed;
    ASSERT_TRUE(equal(complement(land(a, b)), lor(complement(a), complement(b)))) << seed;
    ASSERT_TRUE(equal(land(a, lor(b, c)), lor(land(a, b), land(a, c)))) << seed;
    ASSERT_TRUE(equal(lor(a, land(b, c)), land(lor(a, b), lor(a, c)))) << seed;
    ASSERT_TRUE(equal(lor(lor(a, b), c), lor(a, lor(c, b)))) << seed;
    ASSERT_TRUE(equal(combine(a, b, SetOp::kMinus), land(a, complement(b)))) << seed;
    const Mask x = combine(combine(a, b, SetOp::kXor), combine(b, c, SetOp::kXor), SetOp::kXor);
    ASSERT_TRUE(equal(x, combine(a, c, SetOp::kXor))) << seed;
    ASSERT_EQ(land(a, b).count() + lor(a, b).count(), a.count() + b.count()) << seed;
    ASSERT_EQ(a.count() + complement(a).count(),
              count_of({a.dims().B, a.dims().H, a.dims().Q, a.dims().KV}));
    if (p.dims.Q != p.dims.KV) continue;
    const Mask t = transposed(a);
    ASSERT_TRUE(equal(transposed(t), a)) << seed;
    for (std::int64_t i = 0; i < p.dims.Q; ++i) {
      for (std::int64_t j = 0; j < p.dims.KV; ++j)
        ASSERT_EQ(t.at(0, 0, j, i), a.at(0, 0, i, j)) << seed;
    }
  }
}

TEST(MaskProperty, ColumnsUsedAreThoseOfTheCells) {
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    const Program p = random_program(seed);
    const Mask a = value_or_die(evaluate(p));
    const auto used = columns_used(a.plane(0, 0));
    for (std::int64_t j = 0; j < p.dims.KV; ++j) {
      bool cell = false, listed = false;
      for (std::int64_t i = 0; i < p.dims.Q; ++i) cell = cell || a.at(0, 0, i, j);
      for (const auto& [lo, hi] : used) listed = listed || (lo <= j && j < hi);
      ASSERT_EQ(listed, cell) << seed << " column " << j;
    }
  }
}

}  // namespace
}  // namespace ps::mask
