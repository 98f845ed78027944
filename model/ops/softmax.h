// Softmax over the columns that a mask shows, in float, one block a row of scores. A mask with one
// head serves all heads; mask rows repeat over the replicas. A row without a visible column gives
// zeros, the mean over all columns, or NaN (EmptyRows; kOpened rows are the mask's business).
// Masked scores are never read: what stands there, NaN included, cannot leak.
#pragma once

#include "core/engine.h"
#include "model/ops/op.h"

namespace ps::PS_BACKEND {
namespace {

struct Seen {
  float largest;
  std::int32_t count;
};
struct MergeSeen {
  PS_HD Seen operator()(const Seen& a, const Seen& b) const {
    return {a.largest > b.largest ? a.largest : b.largest, a.count + b.count};
  }
};

template <class S>
struct Softmax {
  Global<const S, 4> scores;           // [row, head, query, col]
  Global<const std::uint8_t, 4> mask;  // [mask_row, mask_head, query, col]
  Global<S, 4> out;                    // [row, head, query, col]
  EmptyRows empty;

  template <class Block>
  PS_HD void operator()(Block& block) const {
    const std::int64_t heads = scores.size(1), queries = scores.size(2), cols = scores.size(3);
    const std::int64_t query = block.index() % queries;
    const std::int64_t head = block.index() / queries % heads;
    const std::int64_t row = block.index() / queries / heads;
    const std::int64_t mask_row = row % mask.size(0), mask_head = head % mask.size(1);
    auto seen_scratch = block.template shared<Seen>(kWarp);
    auto sum_scratch = block.template shared<float>(kWarp);

    PerThread<Block, Seen> part(block);
    block.phase([&](Thread t) { part[t] = Seen{-INFINITY, 0}; });
    block.each(cols, [&](Thread t, std::int64_t c) {
      if (block.load(mask, mask_row, mask_head, query, c) != 0) {
        part[t] = MergeSeen{}(part[t], Seen{block.load(scores, row, head, query, c), 1});
      }
    });
    const Seen seen = block_reduce(block, part, seen_scratch, MergeSeen{}, Seen{-INFINITY, 0});
    if (seen.count == 0) {
      const float value = empty == EmptyRows::kUniform ? 1.f / static_cast<float>(cols)
                                                       : (empty == EmptyRows::kNan ? NAN : 0.f);
      block.each(cols,
                 [&](Thread, std::int64_t c) { block.store(out, value, row, head, query, c); });
      return;
    }
    PerThread<Block, float> total(block);
    block.phase([&](Thread t) { total[t] = 0.f; });
    block.each(cols, [&](Thread t, std::int64_t c) {
      if (block.load(mask, mask_row, mask_head, query, c) != 0) {
        total[t] += exponential(block.load(scores, row, head, query, c) - seen.largest);
      }
    });
    const float sum = block_sum(block, total, sum_scratch);
    block.each(cols, [&](Thread, std::int64_t c) {
      float value = 0.f;
      if (block.load(mask, mask_row, mask_head, query, c) != 0) {
        value = exponential(block.load(scores, row, head, query, c) - seen.largest) / sum;
      }
      block.store(out, value, row, head, query, c);
    });
  }
};

void run_softmax(const OpCall& call, Launch& launch) {
  with_storage(call.arrays[0].dtype(), [&]<class S>(S) {
    run_grid(Softmax<S>{call.in<S, 4>(0), call.in<std::uint8_t, 4>(1), call.out<S, 4>(2),
                        static_cast<EmptyRows>(call.integer(0))},
             call.size(0, 0) * call.size(0, 1) * call.size(0, 2), call, launch);
  });
}

std::vector<OpCase> softmax_cases() {
  // Every fifth mask row shows nothing. Where scores and mask have one shape, masked scores are
  // infinite: a kernel that multiplied instead of choosing would give NaN.
  const auto fill = [](std::int64_t cols, bool poison) {
    return [cols, poison](std::string_view operand, std::int64_t i, const Rng& rng) {
      const bool hidden = i / cols % 5 == 4 || i % 3 == 0;
      if (operand == "mask") return hidden ? 0.0 : 1.0;
      return poison && hidden ? INFINITY : 4.0 * rng.normal(static_cast<std::uint64_t>(i));
    };
  };
  const auto sizes = [](std::int64_t mask_row, std::int64_t mask_head, std::int64_t query,
                        std::int64_t col) {
    return std::vector<std::pair<std::string_view, std::int64_t>>{
        {"row", 4},       {"head", 3}, {"mask_row", mask_row}, {"mask_head", mask_head},
        {"query", query}, {"col", col}};
  };
  std::vector<OpCase> cases;
  for (const std::int64_t cols : {1, 31, 33, 64, 65, 130}) {
    cases.push_back({sizes(2, 1, 5, cols), {0}, fill(cols, false)});
  }
  cases.push_back({sizes(4, 3, 7, 37), {0}, fill(37, true)});  // a mask for each head
  cases.push_back({sizes(1, 1, 6, 35), {1}, fill(35, false)});
  cases.push_back({sizes(2, 1, 5, 9), {3}, fill(9, false)});
  return cases;
}

void softmax_oracle(OracleCall& c) {
  const std::int64_t cols = c.size(0, 3);
  for (std::int64_t r = 0; r < c.size(0, 0); ++r) {
    for (std::int64_t h = 0; h < c.size(0, 1); ++h) {
      for (std::int64_t q = 0; q < c.size(0, 2); ++q) {
        double sum = 0, largest = -INFINITY;
        std::int64_t seen = 0;
        const auto shown = [&](std::int64_t k) {
          return c.at(1, r % c.size(1, 0), h % c.size(1, 1), q, k) != 0;
        };
        for (std::int64_t k = 0; k < cols; ++k) {
          if (shown(k)) largest = std::max(largest, c.at(0, r, h, q, k));
        }
        for (std::int64_t k = 0; k < cols; ++k) {
          if (!shown(k)) continue;
          ++seen;
          sum += std::exp(c.at(0, r, h, q, k) - largest);
        }
        for (std::int64_t k = 0; k < cols; ++k) {
          double value = 0;
          if (seen == 0) value = c.scalars[0] == 1 ? 1.0 / static_cast<double>(cols) : 0.0;
          if (shown(k)) value = std::exp(c.at(0, r, h, q, k) - largest) / sum;
          c.at(2, r, h, q, k) = value;
        }
      }
    }
  }
}

}  // namespace

const OpEntry& softmax() {
  static const OpEntry entry{
      .name = "softmax",
      .schema =
          "scores:S[row,head,query,col] mask:bool[mask_row,mask_head,query,col] "
          "out>S[row,head,query,col] | empty",
      .run = run_softmax,
      .cases = softmax_cases,
      .oracle = softmax_oracle,
      .storage_roundings = 1,
      .float_roundings = 24};
  return entry;
}

}  // namespace ps::PS_BACKEND
