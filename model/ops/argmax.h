// Index of the largest value of each row; the lowest index where several are equal. A NaN never
// wins; a row of NaN gives 0.
#pragma once

#include "model/ops/op.h"

namespace ps::PS_BACKEND {
namespace {

struct Best {
  float value;
  std::int32_t index_low, index_high;  // 64 bits in two words: a shuffle moves words
};
PS_HD inline std::int64_t index_of(const Best& b) {
  return (static_cast<std::int64_t>(b.index_high) << 32) |
         static_cast<std::int64_t>(static_cast<std::uint32_t>(b.index_low));
}
struct Better {
  PS_HD Best operator()(const Best& a, const Best& b) const {
    if (a.value > b.value) return a;
    if (b.value > a.value) return b;
    return index_of(a) <= index_of(b) ? a : b;
  }
};

template <class S>
struct ArgMax {
  Global<const S, 2> x;         // [row, col]
  Global<std::int64_t, 1> out;  // [row]

  template <class Block>
  PS_HD void operator()(Block& block) const {
    const std::int64_t row = block.index();
    auto scratch = block.template shared<Best>(kWarp);
    PerThread<Block, Best> best(block);
    block.phase([&](Thread t) { best[t] = Best{-INFINITY, 0, 0}; });
    block.each(x.size(1), [&](Thread t, std::int64_t c) {
      const float value = block.load(x, row, c);
      if (value > best[t].value) {
        best[t] = Best{value, static_cast<std::int32_t>(static_cast<std::uint32_t>(c & 0xffffffff)),
                       static_cast<std::int32_t>(c >> 32)};
      }
    });
    const Best winner = block_reduce(block, best, scratch, Better{}, Best{-INFINITY, 0, 0});
    block.phase([&](Thread t) {
      if (t.id() == 0) block.store(out, index_of(winner), row);
    });
  }
};

void run_argmax(const OpCall& call, Launch& launch) {
  with_storage(call.arrays[0].dtype(), [&]<class S>(S) {
    run_grid(ArgMax<S>{call.in<S, 2>(0), call.out<std::int64_t, 1>(1)}, call.size(0, 0), call,
             launch);
  });
}

std::vector<OpCase> argmax_cases() {
  const auto ties = [](std::string_view, std::int64_t i, const Rng& rng) {
    return static_cast<double>(rng.below(static_cast<std::uint64_t>(i), 4));
  };
  const auto largest_last = [](std::string_view, std::int64_t i, const Rng&) {
    return static_cast<double>(i % 129);
  };
  const auto negative = [](std::string_view, std::int64_t i, const Rng&) {
    return -1.0 - static_cast<double>(i % 3);
  };
  return {{{{"row", 3}, {"col", 97}}, {}, ties},
          {{{"row", 2}, {"col", 129}}, {}, largest_last},
          {{{"row", 5}, {"col", 33}}, {}, negative},
          {{{"row", 4}, {"col", 1}}, {}, nullptr},
          {{{"row", 2}, {"col", 300}}, {}, nullptr}};
}

void argmax_oracle(OracleCall& c) {
  for (std::int64_t row = 0; row < c.size(0, 0); ++row) {
    std::int64_t best = 0;
    for (std::int64_t i = 1; i < c.size(0, 1); ++i) {
      if (c.at(0, row, i) > c.at(0, row, best)) best = i;
    }
    c.at(1, row) = static_cast<double>(best);
  }
}

}  // namespace

const OpEntry& argmax() {
  static const OpEntry entry{.name = "argmax",
                             .schema = "x:S[row,col] out>i64[row]",
                             .run = run_argmax,
                             .cases = argmax_cases,
                             .oracle = argmax_oracle,
                             .storage_roundings = 0,
                             .float_roundings = 0};
  return entry;
}

}  // namespace ps::PS_BACKEND
