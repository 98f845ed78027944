// Weights of the replicas: softmax in float, then w (1 - smooth) + smooth / P. They stay float in
// every run (parscale.md 4). One thread a row: P is small.
#pragma once

#include "model/ops/op.h"

namespace ps::PS_BACKEND {
namespace {

template <class S>
struct AggregateWeights {
  Global<const S, 2> scores;  // [row, replica]
  Global<float, 2> out;       // [row, replica]
  float smooth;

  template <class Block>
  PS_HD void operator()(Block& block) const {
    const std::int64_t replicas = scores.size(1);
    block.phase([&](Thread t) {
      const std::int64_t row = block.index() * block.threads() + t.id();
      if (row >= scores.size(0)) return;
      float largest = -INFINITY, sum = 0.f;
      for (std::int64_t p = 0; p < replicas; ++p) {
        const float score = block.load(scores, row, p);
        largest = score > largest ? score : largest;
      }
      for (std::int64_t p = 0; p < replicas; ++p)
        sum += exponential(block.load(scores, row, p) - largest);
      for (std::int64_t p = 0; p < replicas; ++p) {
        float weight = exponential(block.load(scores, row, p) - largest) / sum;
        if (smooth != 0.f) weight = weight * (1.f - smooth) + smooth / static_cast<float>(replicas);
        block.store(out, weight, row, p);
      }
    });
  }
};

void run_aggregate_weights(const OpCall& call, Launch& launch) {
  with_storage(call.arrays[0].dtype(), [&]<class S>(S) {
    const std::int64_t grid = (call.size(0, 0) + launch.threads - 1) / launch.threads;
    run_grid(AggregateWeights<S>{call.in<S, 2>(0), call.out<float, 2>(1), call.number(0)}, grid,
             call, launch);
  });
}

std::vector<OpCase> aggregate_weights_cases() {
  return {{{{"row", 5}, {"replica", 3}}, {0.01}, nullptr},
          {{{"row", 131}, {"replica", 8}}, {0.0}, nullptr},
          {{{"row", 1}, {"replica", 2}}, {1.0}, nullptr},
          {{{"row", 64}, {"replica", 5}}, {0.2}, nullptr}};
}

void aggregate_weights_oracle(OracleCall& c) {
  const std::int64_t replicas = c.size(0, 1);
  for (std::int64_t row = 0; row < c.size(0, 0); ++row) {
    double sum = 0;
    for (std::int64_t p = 0; p < replicas; ++p) sum += std::exp(c.at(0, row, p));
    for (std::int64_t p = 0; p < replicas; ++p) {
      c.at(1, row, p) = std::exp(c.at(0, row, p)) / sum * (1 - c.scalars[0]) +
                        c.scalars[0] / static_cast<double>(replicas);
    }
  }
}

}  // namespace

const OpEntry& aggregate_weights() {
  static const OpEntry entry{.name = "aggregate_weights",
                             .schema = "scores:S[row,replica] out>f32[row,replica] | smooth",
                             .run = run_aggregate_weights,
                             .cases = aggregate_weights_cases,
                             .oracle = aggregate_weights_oracle,
                             .storage_roundings = 0,
                             .float_roundings = 16};
  return entry;
}

}  // namespace ps::PS_BACKEND
