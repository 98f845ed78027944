// Transitions between blocks, in logarithms: exponent * log softmax over the blocks that a row may
// look at. What it may not look at is written as 0 and read by nobody. One block a row of scores.
#pragma once

#include "model/block/logarithm.h"
#include "model/ops/op.h"

namespace ps::PS_BACKEND {
namespace {

struct LogTransition {
  Global<const float, 3> scores;          // [row, query, key]
  Global<const std::uint8_t, 3> allowed;  // [row, query, key]
  Global<float, 3> out;                   // [row, query, key]
  float exponent;

  template <class Block>
  PS_HD void operator()(Block& block) const {
    const std::int64_t keys = out.size(2);
    const std::int64_t row = block.index() / out.size(1), query = block.index() % out.size(1);
    auto scratch = block.template shared<float>(kWarp);
    auto sum_scratch = block.template shared<float>(kWarp);
    PerThread<Block, float> part(block);
    block.phase([&](Thread t) { part[t] = -INFINITY; });
    block.each(keys, [&](Thread t, std::int64_t k) {
      if (block.load(allowed, row, query, k) != 0) {
        part[t] = Max{}(part[t], block.load(scores, row, query, k));
      }
    });
    const float largest = block_reduce(block, part, scratch, Max{}, -INFINITY);
    PerThread<Block, float> total(block);
    block.phase([&](Thread t) { total[t] = 0.f; });
    block.each(keys, [&](Thread t, std::int64_t k) {
      if (block.load(allowed, row, query, k) != 0) {
        total[t] += exponential(block.load(scores, row, query, k) - largest);
      }
    });
    const float sum = block_sum(block, total, sum_scratch);
    block.each(keys, [&](Thread, std::int64_t k) {
      float value = 0.f;
      if (block.load(allowed, row, query, k) != 0) {
        value = exponent * (block.load(scores, row, query, k) - largest - logarithm(sum));
      }
      block.store(out, value, row, query, k);
    });
  }
};

void run_log_transition(const OpCall& call, Launch& launch) {
  run_grid(LogTransition{call.in<float, 3>(0), call.in<std::uint8_t, 3>(1), call.out<float, 3>(2),
                         call.number(0)},
           call.size(2, 0) * call.size(2, 1), call, launch);
}

std::vector<OpCase> log_transition_cases() {
  const auto fill = [](std::string_view operand, std::int64_t i, const Rng&) {
    return operand == "allowed" ? (i % 7 == 2 || i < 4 ? 0.0 : 1.0) : NAN;
  };
  return {{{{"row", 2}, {"query", 5}, {"key", 35}}, {8}, fill},
          {{{"row", 3}, {"query", 7}, {"key", 4}}, {2.5}, fill}};
}

void log_transition_oracle(OracleCall& c) {
  const std::int64_t keys = c.size(0, 2);
  for (std::int64_t r = 0; r < c.size(0, 0); ++r) {
    for (std::int64_t q = 0; q < c.size(0, 1); ++q) {
      double sum = 0;
      for (std::int64_t k = 0; k < keys; ++k)
        sum += c.at(1, r, q, k) != 0 ? std::exp(c.at(0, r, q, k)) : 0;
      for (std::int64_t k = 0; k < keys; ++k) {
        c.at(2, r, q, k) =
            c.at(1, r, q, k) != 0 ? c.scalars[0] * (c.at(0, r, q, k) - std::log(sum)) : 0;
      }
    }
  }
}

}  // namespace

const OpEntry& log_transition() {
  static const OpEntry entry{
      .name = "log_transition",
      .schema =
          "scores:f32[row,query,key] allowed:bool[row,query,key] out>f32[row,query,key] | exponent",
      .run = run_log_transition,
      .cases = log_transition_cases,
      .oracle = log_transition_oracle,
      .storage_roundings = 0,
      .float_roundings = 32};
  return entry;
}

}  // namespace ps::PS_BACKEND
