// The blocks that a row selects: the forced ones, then those of greatest score until there are
// `count`, ties to the smaller index. Only allowed blocks are ever taken. One block a row; every
// block counts by itself how many come before it.
#pragma once

#include "model/ops/op.h"

namespace ps::PS_BACKEND {
namespace {

struct BlockTop {
  Global<const float, 3> scores;          // [row, query, key]
  Global<const std::uint8_t, 3> allowed;  // [row, query, key]
  Global<const std::uint8_t, 3> forced;   // [row, query, key]
  Global<std::uint8_t, 3> out;            // [row, query, key]
  std::int64_t count;

  template <class Block>
  PS_HD void operator()(Block& block) const {
    const std::int64_t keys = out.size(2);
    const std::int64_t row = block.index() / out.size(1), query = block.index() % out.size(1);
    block.each(keys, [&](Thread, std::int64_t k) {
      bool taken = false;
      if (block.load(allowed, row, query, k) != 0) {
        const float own = block.load(scores, row, query, k);
        const bool own_forced = block.load(forced, row, query, k) != 0;
        std::int64_t before = 0;
        for (std::int64_t other = 0; other < keys; ++other) {
          if (other == k || block.load(allowed, row, query, other) == 0) continue;
          const float score = block.load(scores, row, query, other);
          const bool other_forced = block.load(forced, row, query, other) != 0;
          const bool better = score > own || (score == own && other < k);
          if (other_forced ? !own_forced || better : !own_forced && better) ++before;
        }
        taken = own_forced || before < count;
      }
      block.store(out, static_cast<std::uint8_t>(taken ? 1 : 0), row, query, k);
    });
  }
};

void run_block_top(const OpCall& call, Launch& launch) {
  run_grid(BlockTop{call.in<float, 3>(0), call.in<std::uint8_t, 3>(1), call.in<std::uint8_t, 3>(2),
                    call.out<std::uint8_t, 3>(3), call.integer(0)},
           call.size(3, 0) * call.size(3, 1), call, launch);
}

std::vector<OpCase> block_top_cases() {
  // Few different scores, so that ties decide.
  const auto fill = [](std::string_view operand, std::int64_t i, const Rng& rng) {
    if (operand == "allowed") return i % 4 == 3 ? 0.0 : 1.0;
    if (operand == "forced") return i % 9 == 0 ? 1.0 : 0.0;
    return static_cast<double>(rng.below(static_cast<std::uint64_t>(i), 4)) - 1.5;
  };
  return {{{{"row", 2}, {"query", 5}, {"key", 40}}, {7}, fill},
          {{{"row", 3}, {"query", 4}, {"key", 6}}, {9}, fill},
          {{{"row", 1}, {"query", 7}, {"key", 35}}, {1}, fill}};
}

void block_top_oracle(OracleCall& c) {
  const std::int64_t keys = c.size(0, 2);
  std::fill(c.arrays[3].begin(), c.arrays[3].end(), 0.0);
  for (std::int64_t r = 0; r < c.size(0, 0); ++r) {
    for (std::int64_t q = 0; q < c.size(0, 1); ++q) {
      std::vector<std::int64_t> order;
      for (std::int64_t k = 0; k < keys; ++k) {
        if (c.at(1, r, q, k) != 0) order.push_back(k);
      }
      std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
        const bool fa = c.at(2, r, q, a) != 0, fb = c.at(2, r, q, b) != 0;
        return fa != fb ? fa : c.at(0, r, q, a) > c.at(0, r, q, b);
      });
      for (std::size_t i = 0; i < order.size(); ++i) {
        const bool in = static_cast<double>(i) < c.scalars[0] || c.at(2, r, q, order[i]) != 0;
        c.at(3, r, q, order[i]) = in ? 1 : 0;
      }
    }
  }
}

}  // namespace

const OpEntry& block_top() {
  static const OpEntry entry{
      .name = "block_top",
      .schema =
          "scores:f32[row,query,key] allowed:bool[row,query,key] forced:bool[row,query,key] "
          "out>bool[row,query,key] | count",
      .run = run_block_top,
      .cases = block_top_cases,
      .oracle = block_top_oracle,
      .storage_roundings = 0,
      .float_roundings = 0};
  return entry;
}

}  // namespace ps::PS_BACKEND
