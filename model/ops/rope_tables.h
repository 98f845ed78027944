// Cosines and sines of RoPE: angle = position * inv_freq, in the half layout concat(a, a), times
// the attention factor of yarn (parscale.md 3.4). Angles are double, so a long position costs no
// digits.
#pragma once

#include "model/ops/op.h"

namespace ps::PS_BACKEND {
namespace {

template <class S>
struct RopeTables {
  Global<const std::int64_t, 2> positions;  // [row, token]
  Global<const float, 1> inv_freq;          // [half]
  Global<S, 3> cosine;                      // [row, token, 2 half]
  Global<S, 3> sine;                        // [row, token, 2 half]
  double factor;

  template <class Block>
  PS_HD void operator()(Block& block) const {
    const std::int64_t row = block.index() / positions.size(1);
    const std::int64_t token = block.index() % positions.size(1);
    const std::int64_t half = inv_freq.size(0);
    block.each(half, [&](Thread, std::int64_t j) {
      const auto position = static_cast<double>(block.load(positions, row, token));
      const SineCosine value = sine_cosine(position * static_cast<double>(block.load(inv_freq, j)));
      const auto c = static_cast<float>(value.cosine * factor);
      const auto s = static_cast<float>(value.sine * factor);
      block.store(cosine, c, row, token, j);
      block.store(cosine, c, row, token, j + half);
      block.store(sine, s, row, token, j);
      block.store(sine, s, row, token, j + half);
    });
  }
};

void run_rope_tables(const OpCall& call, Launch& launch) {
  with_storage(call.arrays[2].dtype(), [&]<class S>(S) {
    run_grid(RopeTables<S>{call.in<std::int64_t, 2>(0), call.in<float, 1>(1), call.out<S, 3>(2),
                           call.out<S, 3>(3), call.scalars[0]},
             call.size(0, 0) * call.size(0, 1), call, launch);
  });
}

std::vector<OpCase> rope_tables_cases() {
  const auto fill = [](std::string_view operand, std::int64_t i, const Rng& rng) {
    if (operand == "positions")
      return static_cast<double>(rng.below(static_cast<std::uint64_t>(i), 100000));
    return static_cast<double>(static_cast<float>(std::pow(1e4, -static_cast<double>(i) / 5.0)));
  };
  return {{{{"row", 2}, {"token", 3}, {"half", 5}, {"dim", 10}}, {1.0}, fill},
          {{{"row", 1}, {"token", 7}, {"half", 33}, {"dim", 66}}, {1.1386294}, fill},
          {{{"row", 3}, {"token", 1}, {"half", 1}, {"dim", 2}}, {1.0}, fill}};
}

void rope_tables_oracle(OracleCall& c) {
  for (std::int64_t r = 0; r < c.size(0, 0); ++r) {
    for (std::int64_t t = 0; t < c.size(0, 1); ++t) {
      for (std::int64_t d = 0; d < c.size(2, 2); ++d) {
        const double angle = c.at(0, r, t) * c.at(1, d % c.size(1, 0));
        c.at(2, r, t, d) = std::cos(angle) * c.scalars[0];
        c.at(3, r, t, d) = std::sin(angle) * c.scalars[0];
      }
    }
  }
}

}  // namespace

const OpEntry& rope_tables() {
  static const OpEntry entry{.name = "rope_tables",
                             .schema =
                                 "positions:i64[row,token] inv_freq:f32[half] cos>S[row,token,dim] "
                                 "sin>S[row,token,dim] | factor",
                             .run = run_rope_tables,
                             .cases = rope_tables_cases,
                             .oracle = rope_tables_oracle,
                             .storage_roundings = 1.01,
                             .float_roundings = 2};
  return entry;
}

}  // namespace ps::PS_BACKEND
