// What was computed over selected blocks, back in its columns: column c of token block j comes from
// slot prefix + place[j]*size + c % size, or is zero where place[j] < 0; the first `prefix` columns
// stand as they are. The inverse of gather_blocks, for those who want to look. One block a query
// row.
#pragma once

#include "model/ops/op.h"

namespace ps::PS_BACKEND {
namespace {

template <class S>
struct ScatterBlocks {
  Global<const S, 4> source;            // [row, head, query, slot]
  Global<const std::int64_t, 1> place;  // [block]
  Global<S, 4> out;                     // [row, head, query, col]
  std::int64_t size, prefix;

  template <class Block>
  PS_HD void operator()(Block& block) const {
    const std::int64_t query = block.index() % out.size(2);
    const std::int64_t head = block.index() / out.size(2) % out.size(1);
    const std::int64_t row = block.index() / out.size(2) / out.size(1);
    block.each(out.size(3), [&](Thread, std::int64_t c) {
      std::int64_t slot = c;
      if (c >= prefix) {
        const std::int64_t entry = block.load(place, (c - prefix) / size);
        slot = entry < 0 ? -1 : prefix + entry * size + (c - prefix) % size;
      }
      const float value = slot < 0 ? 0.f : block.load(source, row, head, query, slot);
      block.store(out, value, row, head, query, c);
    });
  }
};

void run_scatter_blocks(const OpCall& call, Launch& launch) {
  with_storage(call.arrays[0].dtype(), [&]<class S>(S) {
    run_grid(ScatterBlocks<S>{call.in<S, 4>(0), call.in<std::int64_t, 1>(1), call.out<S, 4>(2),
                              call.integer(0), call.integer(1)},
             call.size(2, 0) * call.size(2, 1) * call.size(2, 2), call, launch);
  });
}

std::vector<OpCase> scatter_blocks_cases() {
  // Blocks 3 and 1 were selected, in that order; the last block is cut.
  const auto fill = [](std::string_view operand, std::int64_t i, const Rng&) {
    if (operand == "place") return i == 3 ? 0.0 : (i == 1 ? 1.0 : -1.0);
    return static_cast<double>(NAN);
  };
  return {{{{"row", 2}, {"head", 3}, {"query", 4}, {"slot", 10}, {"block", 5}, {"col", 22}},
           {5, 0},
           fill},
          {{{"row", 1}, {"head", 2}, {"query", 7}, {"slot", 11}, {"block", 4}, {"col", 18}},
           {4, 3},
           fill}};
}

void scatter_blocks_oracle(OracleCall& c) {
  const auto size = static_cast<std::int64_t>(c.scalars[0]);
  const auto prefix = static_cast<std::int64_t>(c.scalars[1]);
  std::fill(c.arrays[2].begin(), c.arrays[2].end(), 0.0);
  for (std::int64_t r = 0; r < c.size(2, 0); ++r) {
    for (std::int64_t h = 0; h < c.size(2, 1); ++h) {
      for (std::int64_t q = 0; q < c.size(2, 2); ++q) {
        for (std::int64_t p = 0; p < prefix; ++p) c.at(2, r, h, q, p) = c.at(0, r, h, q, p);
        for (std::int64_t j = 0; j < c.size(1, 0); ++j) {
          const auto entry = static_cast<std::int64_t>(c.at(1, j));
          for (std::int64_t t = 0; entry >= 0 && t < size; ++t) {
            const std::int64_t col = prefix + j * size + t;
            if (col >= c.size(2, 3)) break;
            c.at(2, r, h, q, col) = c.at(0, r, h, q, prefix + entry * size + t);
          }
        }
      }
    }
  }
}

}  // namespace

const OpEntry& scatter_blocks() {
  static const OpEntry entry{
      .name = "scatter_blocks",
      .schema =
          "source:S[row,head,query,slot] place:i64[block] out>S[row,head,query,col] | size prefix",
      .run = run_scatter_blocks,
      .cases = scatter_blocks_cases,
      .oracle = scatter_blocks_oracle,
      .storage_roundings = 0,
      .float_roundings = 0};
  return entry;
}

}  // namespace ps::PS_BACKEND
