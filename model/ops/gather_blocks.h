// Selected blocks of tokens side by side: slot e*size + t is token index[e]*size + t, zeros beyond
// the last token. One block an entry of a head.
#pragma once

#include "model/ops/op.h"

namespace ps::PS_BACKEND {
namespace {

template <class S>
struct GatherBlocks {
  Global<const S, 4> source;            // [row, head, token, dim]
  Global<const std::int64_t, 1> index;  // [entry]
  Global<S, 4> out;                     // [row, head, slot, dim]
  std::int64_t size;

  template <class Block>
  PS_HD void operator()(Block& block) const {
    const std::int64_t entries = index.size(0), dims = out.size(3);
    const std::int64_t entry = block.index() % entries;
    const std::int64_t head = block.index() / entries % out.size(1);
    const std::int64_t row = block.index() / entries / out.size(1);
    block.each(dims, [&](Thread, std::int64_t d) {
      const std::int64_t begin = block.load(index, entry) * size;
      for (std::int64_t t = 0; t < size; ++t) {
        const bool real = begin + t < source.size(2);
        const float value = real ? block.load(source, row, head, begin + t, d) : 0.f;
        block.store(out, value, row, head, entry * size + t, d);
      }
    });
  }
};

void run_gather_blocks(const OpCall& call, Launch& launch) {
  with_storage(call.arrays[0].dtype(), [&]<class S>(S) {
    run_grid(GatherBlocks<S>{call.in<S, 4>(0), call.in<std::int64_t, 1>(1), call.out<S, 4>(2),
                             call.integer(0)},
             call.size(2, 0) * call.size(2, 1) * call.size(1, 0), call, launch);
  });
}

std::vector<OpCase> gather_blocks_cases() {
  // Five blocks, the last one cut.
  const auto fill = [](std::string_view operand, std::int64_t i, const Rng&) {
    return operand == "index" ? static_cast<double>((i * 2 + 4) % 5) : NAN;
  };
  return {
      {{{"row", 2}, {"head", 1}, {"token", 22}, {"entry", 3}, {"slot", 15}, {"dim", 33}},
       {5},
       fill},
      {{{"row", 1}, {"head", 3}, {"token", 17}, {"entry", 2}, {"slot", 8}, {"dim", 6}}, {4}, fill}};
}

void gather_blocks_oracle(OracleCall& c) {
  const auto size = static_cast<std::int64_t>(c.scalars[0]);
  std::fill(c.arrays[2].begin(), c.arrays[2].end(), 0.0);
  for (std::int64_t r = 0; r < c.size(2, 0); ++r) {
    for (std::int64_t h = 0; h < c.size(2, 1); ++h) {
      for (std::int64_t s = 0; s < c.size(2, 2); ++s) {
        const std::int64_t token = static_cast<std::int64_t>(c.at(1, s / size)) * size + s % size;
        for (std::int64_t d = 0; d < c.size(2, 3) && token < c.size(0, 2); ++d) {
          c.at(2, r, h, s, d) = c.at(0, r, h, token, d);
        }
      }
    }
  }
}

}  // namespace

const OpEntry& gather_blocks() {
  static const OpEntry entry{
      .name = "gather_blocks",
      .schema = "source:S[row,head,token,dim] index:i64[entry] out>S[row,head,slot,dim] | size",
      .run = run_gather_blocks,
      .cases = gather_blocks_cases,
      .oracle = gather_blocks_oracle,
      .storage_roundings = 0,
      .float_roundings = 0};
  return entry;
}

}  // namespace ps::PS_BACKEND
