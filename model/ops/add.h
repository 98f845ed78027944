// a + b, cell by cell: the residual stream.
#pragma once

#include "model/ops/op.h"

namespace ps::PS_BACKEND {
namespace {

template <class S>
struct Add {
  Global<const S, 2> a;  // [row, col]
  Global<const S, 2> b;  // [row, col]
  Global<S, 2> out;      // [row, col]

  template <class Block>
  PS_HD void operator()(Block& block) const {
    const std::int64_t row = block.index();
    block.each(out.size(1), [&](Thread, std::int64_t c) {
      block.store(out, block.load(a, row, c) + block.load(b, row, c), row, c);
    });
  }
};

void run_add(const OpCall& call, Launch& launch) {
  with_storage(call.arrays[0].dtype(), [&]<class S>(S) {
    run_grid(Add<S>{call.in<S, 2>(0), call.in<S, 2>(1), call.out<S, 2>(2)}, call.size(0, 0), call,
             launch);
  });
}

std::vector<OpCase> add_cases() {
  return {{{{"row", 3}, {"col", 65}}, {}, nullptr},
          {{{"row", 5}, {"col", 1}}, {}, nullptr},
          {{{"row", 0}, {"col", 3}}, {}, nullptr}};
}

void add_oracle(OracleCall& c) {
  for (std::size_t i = 0; i < c.arrays[0].size(); ++i)
    c.arrays[2][i] = c.arrays[0][i] + c.arrays[1][i];
}

}  // namespace

const OpEntry& add() {
  static const OpEntry entry{.name = "add",
                             .schema = "a:S[row,col] b:S[row,col] out>S[row,col]",
                             .run = run_add,
                             .cases = add_cases,
                             .oracle = add_oracle,
                             .storage_roundings = 1,
                             .float_roundings = 1};
  return entry;
}

}  // namespace ps::PS_BACKEND
