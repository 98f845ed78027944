// Takes rows of the leading axis: out[r] = source[index[r]]. The beam reorder of a KV cache, whose
// index holds beam_idx[i] + p*batch for every replica p.
#pragma once

#include "model/ops/op.h"

namespace ps::PS_BACKEND {
namespace {

template <class S>
struct GatherRows {
  Global<const S, 4> source;            // [from, head, token, dim]
  Global<const std::int64_t, 1> index;  // [row]
  Global<S, 4> out;                     // [row, head, token, dim]

  template <class Block>
  PS_HD void operator()(Block& block) const {
    const std::int64_t row = block.index() / out.size(2);
    const std::int64_t token = block.index() % out.size(2);
    block.each(out.size(3), [&](Thread, std::int64_t d) {
      const std::int64_t from = block.load(index, row);
      for (std::int64_t head = 0; head < out.size(1); ++head) {
        block.store(out, block.load(source, from, head, token, d), row, head, token, d);
      }
    });
  }
};

void run_gather_rows(const OpCall& call, Launch& launch) {
  with_storage(call.arrays[0].dtype(), [&]<class S>(S) {
    run_grid(GatherRows<S>{call.in<S, 4>(0), call.in<std::int64_t, 1>(1), call.out<S, 4>(2)},
             call.size(2, 0) * call.size(2, 2), call, launch);
  });
}

std::vector<OpCase> gather_rows_cases() {
  const auto fill = [](std::string_view operand, std::int64_t i, const Rng& rng) {
    return operand == "index" ? static_cast<double>(rng.below(static_cast<std::uint64_t>(i), 4))
                              : NAN;
  };
  return {{{{"from", 4}, {"row", 6}, {"head", 3}, {"token", 5}, {"dim", 33}}, {}, fill},
          {{{"from", 4}, {"row", 2}, {"head", 1}, {"token", 7}, {"dim", 6}}, {}, fill}};
}

void gather_rows_oracle(OracleCall& c) {
  for (std::int64_t r = 0; r < c.size(2, 0); ++r) {
    for (std::int64_t h = 0; h < c.size(2, 1); ++h) {
      for (std::int64_t t = 0; t < c.size(2, 2); ++t) {
        for (std::int64_t d = 0; d < c.size(2, 3); ++d) {
          c.at(2, r, h, t, d) = c.at(0, static_cast<std::int64_t>(c.at(1, r)), h, t, d);
        }
      }
    }
  }
}

}  // namespace

const OpEntry& gather_rows() {
  static const OpEntry entry{
      .name = "gather_rows",
      .schema = "source:S[from,head,token,dim] index:i64[row] out>S[row,head,token,dim]",
      .run = run_gather_rows,
      .cases = gather_rows_cases,
      .oracle = gather_rows_oracle,
      .storage_roundings = 0,
      .float_roundings = 0};
  return entry;
}

}  // namespace ps::PS_BACKEND
