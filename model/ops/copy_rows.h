// Copies a block of four axes, each source row `fold` times in a row: out[r] = source[r / fold].
// The KV append (fold 1, out = the new slots of the cache), the prefix fill (fold = batch: row
// p*batch + i is prefix[p], never rotated) and every packing of strided arrays.
#pragma once

#include "model/ops/op.h"

namespace ps::PS_BACKEND {
namespace {

template <class S>
struct CopyRows {
  Global<const S, 4> source;  // [from, head, token, dim]
  Global<S, 4> out;           // [row, head, token, dim]
  std::int64_t fold;

  template <class Block>
  PS_HD void operator()(Block& block) const {
    const std::int64_t row = block.index() / out.size(2);
    const std::int64_t token = block.index() % out.size(2);
    block.each(out.size(3), [&](Thread, std::int64_t d) {
      for (std::int64_t head = 0; head < out.size(1); ++head) {
        block.store(out, block.load(source, row / fold, head, token, d), row, head, token, d);
      }
    });
  }
};

void run_copy_rows(const OpCall& call, Launch& launch) {
  PS_CHECK(call.size(0, 0) * call.integer(0) == call.size(1, 0), call.describe());
  with_storage(call.arrays[0].dtype(), [&]<class S>(S) {
    run_grid(CopyRows<S>{call.in<S, 4>(0), call.out<S, 4>(1), call.integer(0)},
             call.size(1, 0) * call.size(1, 2), call, launch);
  });
}

std::vector<OpCase> copy_rows_cases() {
  return {{{{"from", 2}, {"row", 6}, {"head", 3}, {"token", 5}, {"dim", 7}}, {3}, nullptr},
          {{{"from", 4}, {"row", 4}, {"head", 2}, {"token", 1}, {"dim", 65}}, {1}, nullptr},
          {{{"from", 2}, {"row", 4}, {"head", 3}, {"token", 0}, {"dim", 5}}, {2}, nullptr}};
}

void copy_rows_oracle(OracleCall& c) {
  for (std::int64_t r = 0; r < c.size(1, 0); ++r) {
    for (std::int64_t h = 0; h < c.size(1, 1); ++h) {
      for (std::int64_t t = 0; t < c.size(1, 2); ++t) {
        for (std::int64_t d = 0; d < c.size(1, 3); ++d) {
          c.at(1, r, h, t, d) = c.at(0, r / static_cast<std::int64_t>(c.scalars[0]), h, t, d);
        }
      }
    }
  }
}

}  // namespace

const OpEntry& copy_rows() {
  static const OpEntry entry{
      .name = "copy_rows",
      .schema = "source:S[from,head,token,dim] out>S[row,head,token,dim] | fold",
      .run = run_copy_rows,
      .cases = copy_rows_cases,
      .oracle = copy_rows_oracle,
      .storage_roundings = 0,
      .float_roundings = 0};
  return entry;
}

}  // namespace ps::PS_BACKEND
