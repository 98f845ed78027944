// The blocks that a gate selects: those whose probability is above a threshold and among the
// `count` greatest of the row, ties to the smaller index; and the forced ones. Only allowed blocks
// are ever taken. `everything`: blocks that are not allowed still use up places, as where the
// greatest are picked before the mask is applied. One block a row; every block counts by itself
// how many come before it.
#pragma once

#include "model/ops/op.h"

namespace ps::PS_BACKEND {
namespace {

struct GatePick {
  Global<const float, 3> scores;          // [row, query, key]
  Global<const std::uint8_t, 3> allowed;  // [row, query, key]
  Global<const std::uint8_t, 3> forced;   // [row, query, key]
  Global<std::uint8_t, 3> out;            // [row, query, key]
  float threshold;
  std::int64_t count;
  bool everything;

  template <class Block>
  PS_HD void operator()(Block& block) const {
    const std::int64_t keys = out.size(2);
    const std::int64_t row = block.index() / out.size(1), query = block.index() % out.size(1);
    block.each(keys, [&](Thread, std::int64_t k) {
      bool taken = false;
      if (block.load(allowed, row, query, k) != 0) {
        const float own = block.load(scores, row, query, k);
        std::int64_t before = 0;
        for (std::int64_t other = 0; other < keys; ++other) {
          if (other == k) continue;
          if (!everything && block.load(allowed, row, query, other) == 0) continue;
          const float score = block.load(scores, row, query, other);
          if (score > own || (score == own && other < k)) ++before;
        }
        taken = (own > threshold && before < count) || block.load(forced, row, query, k) != 0;
      }
      block.store(out, static_cast<std::uint8_t>(taken ? 1 : 0), row, query, k);
    });
  }
};

void run_gate_pick(const OpCall& call, Launch& launch) {
  run_grid(
      GatePick{call.in<float, 3>(0), call.in<std::uint8_t, 3>(1), call.in<std::uint8_t, 3>(2),
               call.out<std::uint8_t, 3>(3), call.number(0), call.integer(1), call.integer(2) != 0},
      call.size(3, 0) * call.size(3, 1), call, launch);
}

std::vector<OpCase> gate_pick_cases() {
  // Few different scores, so that ties decide, and some on the threshold itself.
  const auto fill = [](std::string_view operand, std::int64_t i, const Rng& rng) {
    if (operand == "allowed") return i % 4 == 3 ? 0.0 : 1.0;
    if (operand == "forced") return i % 9 == 0 ? 1.0 : 0.0;
    return static_cast<double>(rng.below(static_cast<std::uint64_t>(i), 5)) * 0.25;
  };
  return {{{{"row", 2}, {"query", 5}, {"key", 40}}, {0.5, 40, 0}, fill},  // a threshold
          {{{"row", 3}, {"query", 4}, {"key", 35}}, {-1, 6, 1}, fill},    // a ratio
          {{{"row", 1}, {"query", 7}, {"key", 33}}, {-1, 5, 0}, fill},    // the best five
          {{{"row", 2}, {"query", 3}, {"key", 6}}, {0.25, 9, 1}, fill}};
}

void gate_pick_oracle(OracleCall& c) {
  const std::int64_t keys = c.size(0, 2);
  std::fill(c.arrays[3].begin(), c.arrays[3].end(), 0.0);
  for (std::int64_t r = 0; r < c.size(0, 0); ++r) {
    for (std::int64_t q = 0; q < c.size(0, 1); ++q) {
      std::vector<std::int64_t> order;
      for (std::int64_t k = 0; k < keys; ++k) {
        if (c.scalars[2] != 0 || c.at(1, r, q, k) != 0) order.push_back(k);
      }
      std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
        return c.at(0, r, q, a) > c.at(0, r, q, b);
      });
      for (std::size_t i = 0; i < order.size() && static_cast<double>(i) < c.scalars[1]; ++i) {
        if (c.at(0, r, q, order[i]) > c.scalars[0]) c.at(3, r, q, order[i]) = 1;
      }
      for (std::int64_t k = 0; k < keys; ++k) {
        if (c.at(2, r, q, k) != 0) c.at(3, r, q, k) = 1;
        if (c.at(1, r, q, k) == 0) c.at(3, r, q, k) = 0;
      }
    }
  }
}

}  // namespace

const OpEntry& gate_pick() {
  static const OpEntry entry{
      .name = "gate_pick",
      .schema =
          "scores:f32[row,query,key] allowed:bool[row,query,key] forced:bool[row,query,key] "
          "out>bool[row,query,key] | threshold count everything",
      .run = run_gate_pick,
      .cases = gate_pick_cases,
      .oracle = gate_pick_oracle,
      .storage_roundings = 0,
      .float_roundings = 0};
  return entry;
}

}  // namespace ps::PS_BACKEND
