// The aggregator's input: hidden outer, replica inner, feature h*P + p (parscale.md 3.8).
#pragma once

#include "model/ops/op.h"

namespace ps::PS_BACKEND {
namespace {

template <class S>
struct AggregateInput {
  Global<const S, 3> y;  // [replica, row, hidden]
  Global<S, 3> out;      // [row, hidden, replica]

  template <class Block>
  PS_HD void operator()(Block& block) const {
    const std::int64_t row = block.index();
    block.each(y.size(2), [&](Thread, std::int64_t h) {
      for (std::int64_t p = 0; p < y.size(0); ++p)
        block.store(out, block.load(y, p, row, h), row, h, p);
    });
  }
};

void run_aggregate_input(const OpCall& call, Launch& launch) {
  with_storage(call.arrays[0].dtype(), [&]<class S>(S) {
    run_grid(AggregateInput<S>{call.in<S, 3>(0), call.out<S, 3>(1)}, call.size(0, 1), call, launch);
  });
}

std::vector<OpCase> aggregate_input_cases() {
  return {{{{"replica", 3}, {"row", 5}, {"hidden", 65}}, {}, nullptr},
          {{{"replica", 2}, {"row", 1}, {"hidden", 7}}, {}, nullptr}};
}

void aggregate_input_oracle(OracleCall& c) {
  const std::int64_t replicas = c.size(0, 0);
  for (std::int64_t row = 0; row < c.size(0, 1); ++row) {
    for (std::int64_t feature = 0; feature < c.size(0, 2) * replicas; ++feature) {
      c.at(1, row, feature / replicas, feature % replicas) =
          c.at(0, feature % replicas, row, feature / replicas);
    }
  }
}

}  // namespace

const OpEntry& aggregate_input() {
  static const OpEntry entry{.name = "aggregate_input",
                             .schema = "y:S[replica,row,hidden] out>S[row,hidden,replica]",
                             .run = run_aggregate_input,
                             .cases = aggregate_input_cases,
                             .oracle = aggregate_input_oracle,
                             .storage_roundings = 0,
                             .float_roundings = 0};
  return entry;
}

}  // namespace ps::PS_BACKEND
