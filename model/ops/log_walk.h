// One layer further on a walk, in logarithms: log(exp(before) exp(step)), disallowed blocks left
// out, each row divided by its sum. With damping d it is d exp(direct) + (1 - d) exp(before)
// exp(step): a part of the walk starts anew. Linear float32 would be all zero after a few layers.
// Disallowed cells are written as 0 and never read. One block a row.
#pragma once

#include "model/block/logarithm.h"
#include "model/ops/op.h"

namespace ps::PS_BACKEND {
namespace {

// log of nothing, finite so that differences of two are no NaN.
inline constexpr float kLogNothing = -1e30f;

struct LogWalk {
  Global<const float, 3> before;          // [row, query, middle]
  Global<const std::uint8_t, 3> reached;  // [row, query, middle]: cells of before that count
  Global<const float, 3> step;            // [row, middle, key]
  Global<const std::uint8_t, 3> open;     // [row, middle, key]: cells of step that count
  Global<const float, 3> direct;          // [row, query, key]: step, seen from the queries
  Global<const std::uint8_t, 3> allowed;  // [row, query, key]
  Global<float, 3> out;                   // [row, query, key]
  float log_damping, log_kept;            // of d and 1 - d; the first is kLogNothing for none

  template <class Block>
  PS_HD void operator()(Block& block) const {
    const std::int64_t keys = out.size(2), middles = step.size(1);
    const std::int64_t row = block.index() / out.size(1), query = block.index() % out.size(1);
    auto scratch = block.template shared<float>(kWarp);
    auto sum_scratch = block.template shared<float>(kWarp);
    PerThread<Block, float> part(block);
    block.phase([&](Thread t) { part[t] = kLogNothing; });
    block.each(keys, [&](Thread t, std::int64_t k) {
      float value = 0.f;
      if (block.load(allowed, row, query, k) != 0) {
        float largest = kLogNothing, sum = 0.f;
        for (std::int64_t m = 0; m < middles; ++m) {
          if (block.load(reached, row, query, m) == 0 || block.load(open, row, m, k) == 0) continue;
          largest = Max{}(largest, block.load(before, row, query, m) + block.load(step, row, m, k));
        }
        for (std::int64_t m = 0; m < middles; ++m) {
          if (block.load(reached, row, query, m) == 0 || block.load(open, row, m, k) == 0) continue;
          sum += exponential(block.load(before, row, query, m) + block.load(step, row, m, k) -
                             largest);
        }
        value = sum > 0.f ? largest + logarithm(sum) : kLogNothing;
        if (log_damping > kLogNothing) {
          const float fresh = log_damping + block.load(direct, row, query, k);
          const float walked = value > kLogNothing ? value + log_kept : kLogNothing;
          const float top = Max{}(fresh, walked);
          value = top + logarithm(exponential(fresh - top) + exponential(walked - top));
        }
        part[t] = Max{}(part[t], value);
      }
      block.store(out, value, row, query, k);
    });
    const float largest = block_reduce(block, part, scratch, Max{}, kLogNothing);
    PerThread<Block, float> total(block);
    block.phase([&](Thread t) { total[t] = 0.f; });
    block.each(keys, [&](Thread t, std::int64_t k) {
      if (block.load(allowed, row, query, k) != 0) {
        total[t] += exponential(block.load(out, row, query, k) - largest);
      }
    });
    const float sum = block_sum(block, total, sum_scratch);
    block.each(keys, [&](Thread, std::int64_t k) {
      if (block.load(allowed, row, query, k) == 0) return;
      const float value = block.load(out, row, query, k);
      if (value > kLogNothing) {
        block.store(out, value - largest - logarithm(sum), row, query, k);
      }
    });
  }
};

void run_log_walk(const OpCall& call, Launch& launch) {
  const float d = call.number(0);
  const bool damped = d > 0.f;
  run_grid(LogWalk{call.in<float, 3>(0), call.in<std::uint8_t, 3>(1), call.in<float, 3>(2),
                   call.in<std::uint8_t, 3>(3), call.in<float, 3>(4), call.in<std::uint8_t, 3>(5),
                   call.out<float, 3>(6), damped ? std::log(d) : kLogNothing, std::log1p(-d)},
           call.size(6, 0) * call.size(6, 1), call, launch);
}

std::vector<OpCase> log_walk_cases() {
  // The first middle block is open to all, so that each allowed cell is reached.
  const auto fill = [](std::int64_t middles, std::int64_t keys) {
    return [=](std::string_view operand, std::int64_t i, const Rng&) {
      if (operand == "reached") return i % middles == 0 || i % 3 != 0 ? 1.0 : 0.0;
      if (operand == "open") return i / keys % middles == 0 || i % 4 != 1 ? 1.0 : 0.0;
      if (operand == "allowed") return i % 5 == 2 || i < 3 ? 0.0 : 1.0;
      return static_cast<double>(NAN);
    };
  };
  return {{{{"row", 2}, {"query", 5}, {"middle", 37}, {"key", 3}}, {0}, fill(37, 3)},
          {{{"row", 3}, {"query", 4}, {"middle", 6}, {"key", 35}}, {0.25}, fill(6, 35)},
          {{{"row", 3}, {"query", 2}, {"middle", 4}, {"key", 70}}, {0}, fill(4, 70)}};
}

void log_walk_oracle(OracleCall& c) {
  const std::int64_t keys = c.size(6, 2);
  const double damping = c.scalars[0];
  for (std::int64_t r = 0; r < c.size(6, 0); ++r) {
    for (std::int64_t q = 0; q < c.size(6, 1); ++q) {
      std::vector<double> next(static_cast<std::size_t>(keys), 0.0);
      double sum = 0;
      for (std::int64_t k = 0; k < keys; ++k) {
        double& here = next[static_cast<std::size_t>(k)];
        for (std::int64_t m = 0; m < c.size(2, 1) && c.at(5, r, q, k) != 0; ++m) {
          if (c.at(1, r, q, m) == 0 || c.at(3, r, m, k) == 0) continue;
          here += (1 - damping) * std::exp(c.at(0, r, q, m) + c.at(2, r, m, k));
        }
        if (damping > 0 && c.at(5, r, q, k) != 0) here += damping * std::exp(c.at(4, r, q, k));
        sum += here;
      }
      for (std::int64_t k = 0; k < keys; ++k) {
        c.at(6, r, q, k) =
            c.at(5, r, q, k) != 0 ? std::log(next[static_cast<std::size_t>(k)] / sum) : 0;
      }
    }
  }
}

}  // namespace

const OpEntry& log_walk() {
  static const OpEntry entry{
      .name = "log_walk",
      .schema =
          "before:f32[row,query,middle] reached:bool[row,query,middle] step:f32[row,middle,key] "
          "open:bool[row,middle,key] direct:f32[row,query,key] allowed:bool[row,query,key] "
          "out>f32[row,query,key] | damping",
      .run = run_log_walk,
      .cases = log_walk_cases,
      .oracle = log_walk_oracle,
      .storage_roundings = 0,
      .float_roundings = 64};
  return entry;
}

}  // namespace ps::PS_BACKEND
