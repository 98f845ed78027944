// The replicas' states, added up by their weights, in float and rounded once.
#pragma once

#include "model/ops/op.h"

namespace ps::PS_BACKEND {
namespace {

template <class S>
struct WeightedSum {
  Global<const S, 3> y;            // [replica, row, hidden]
  Global<const float, 2> weights;  // [row, replica]
  Global<S, 2> out;                // [row, hidden]

  template <class Block>
  PS_HD void operator()(Block& block) const {
    const std::int64_t row = block.index();
    block.each(out.size(1), [&](Thread, std::int64_t h) {
      float sum = 0.f;
      for (std::int64_t p = 0; p < y.size(0); ++p)
        sum += block.load(weights, row, p) * block.load(y, p, row, h);
      block.store(out, sum, row, h);
    });
  }
};

void run_weighted_sum(const OpCall& call, Launch& launch) {
  with_storage(call.arrays[0].dtype(), [&]<class S>(S) {
    run_grid(WeightedSum<S>{call.in<S, 3>(0), call.in<float, 2>(1), call.out<S, 2>(2)},
             call.size(0, 1), call, launch);
  });
}

std::vector<OpCase> weighted_sum_cases() {
  return {{{{"replica", 3}, {"row", 5}, {"hidden", 65}}, {}, nullptr},
          {{{"replica", 8}, {"row", 2}, {"hidden", 31}}, {}, nullptr}};
}

void weighted_sum_oracle(OracleCall& c) {
  for (std::int64_t row = 0; row < c.size(0, 1); ++row) {
    for (std::int64_t h = 0; h < c.size(0, 2); ++h) {
      double sum = 0;
      for (std::int64_t p = 0; p < c.size(0, 0); ++p) sum += c.at(1, row, p) * c.at(0, p, row, h);
      c.at(2, row, h) = sum;
    }
  }
}

}  // namespace

const OpEntry& weighted_sum() {
  static const OpEntry entry{
      .name = "weighted_sum",
      .schema = "y:S[replica,row,hidden] weights:f32[row,replica] out>S[row,hidden]",
      .run = run_weighted_sum,
      .cases = weighted_sum_cases,
      .oracle = weighted_sum_oracle,
      .storage_roundings = 1,
      .float_roundings = 16};
  return entry;
}

}  // namespace ps::PS_BACKEND
