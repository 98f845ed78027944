// RMSNorm, one block a row: weight * cast(x / sqrt(mean(x^2) + eps)). Statistics are float; the
// normalised value is rounded to the storage type before the weight is applied (parscale.md 4).
#pragma once

#include "model/ops/op.h"

namespace ps::PS_BACKEND {
namespace {

template <class S>
struct RmsNorm {
  Global<const S, 2> x;       // [row, col]
  Global<const S, 1> weight;  // [col]
  Global<S, 2> out;           // [row, col]
  float eps;

  template <class Block>
  PS_HD void operator()(Block& block) const {
    const std::int64_t row = block.index();
    auto scratch = block.template shared<float>(kWarp);
    PerThread<Block, float> part(block);
    block.phase([&](Thread t) { part[t] = 0.f; });
    block.each(x.size(1), [&](Thread t, std::int64_t c) {
      const float value = block.load(x, row, c);
      part[t] += value * value;
    });
    const float mean = block_sum(block, part, scratch) / static_cast<float>(x.size(1));
    const float scale = 1.f / sqrtf(mean + eps);
    block.each(x.size(1), [&](Thread, std::int64_t c) {
      block.store(out, rounded<S>(block.load(x, row, c) * scale) * block.load(weight, c), row, c);
    });
  }
};

void run_rms_norm(const OpCall& call, Launch& launch) {
  with_storage(call.arrays[0].dtype(), [&]<class S>(S) {
    run_grid(RmsNorm<S>{call.in<S, 2>(0), call.in<S, 1>(1), call.out<S, 2>(2), call.number(0)},
             call.size(0, 0), call, launch);
  });
}

std::vector<OpCase> rms_norm_cases() {
  std::vector<OpCase> cases;
  for (const std::int64_t cols : {1, 7, 31, 32, 33, 64, 97, 129, 300}) {
    cases.push_back({{{"row", 3}, {"col", cols}}, {1e-5}, nullptr});
  }
  cases.push_back({{{"row", 0}, {"col", 5}}, {1e-6}, nullptr});
  cases.push_back(
      {{{"row", 2}, {"col", 40}}, {1e-2}, [](std::string_view operand, std::int64_t, const Rng&) {
         return operand == "x" ? 0.0 : NAN;  // a row of zeros stays zero
       }});
  return cases;
}

void rms_norm_oracle(OracleCall& c) {
  for (std::int64_t r = 0; r < c.size(0, 0); ++r) {
    double squares = 0;
    for (std::int64_t i = 0; i < c.size(0, 1); ++i) squares += c.at(0, r, i) * c.at(0, r, i);
    const double root = std::sqrt(squares / static_cast<double>(c.size(0, 1)) + c.scalars[0]);
    for (std::int64_t i = 0; i < c.size(0, 1); ++i)
      c.at(2, r, i) = c.at(0, r, i) / root * c.at(1, i);
  }
}

}  // namespace

const OpEntry& rms_norm() {
  static const OpEntry entry{.name = "rms_norm",
                             .schema = "x:S[row,col] weight:S[col] out>S[row,col] | eps",
                             .run = run_rms_norm,
                             .cases = rms_norm_cases,
                             .oracle = rms_norm_oracle,
                             .storage_roundings = 2,
                             .float_roundings = 16};
  return entry;
}

}  // namespace ps::PS_BACKEND
