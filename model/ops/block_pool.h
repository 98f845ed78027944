// Means of blocks of tokens: over all heads, then over the valid tokens of each block, by their
// true number, also in a last block that is cut. A block without a valid token gives zeros. One
// block a block of tokens.
#pragma once

#include "model/ops/op.h"

namespace ps::PS_BACKEND {
namespace {

template <class S>
struct BlockPool {
  Global<const S, 4> x;                 // [row, head, token, dim]
  Global<const std::uint8_t, 2> valid;  // [row, token]
  Global<float, 3> out;                 // [row, block, dim]
  std::int64_t size;

  template <class Block>
  PS_HD void operator()(Block& block) const {
    const std::int64_t row = block.index() / out.size(1), own = block.index() % out.size(1);
    const std::int64_t begin = own * size;
    const std::int64_t end = begin + size < x.size(2) ? begin + size : x.size(2);
    block.each(out.size(2), [&](Thread, std::int64_t d) {
      float sum = 0.f;
      std::int64_t count = 0;
      for (std::int64_t t = begin; t < end; ++t) {
        if (block.load(valid, row, t) == 0) continue;
        ++count;
        for (std::int64_t h = 0; h < x.size(1); ++h) sum += block.load(x, row, h, t, d);
      }
      const std::int64_t terms = count * x.size(1);
      block.store(out, terms == 0 ? 0.f : sum / static_cast<float>(terms), row, own, d);
    });
  }
};

void run_block_pool(const OpCall& call, Launch& launch) {
  with_storage(call.arrays[0].dtype(), [&]<class S>(S) {
    run_grid(BlockPool<S>{call.in<S, 4>(0), call.in<std::uint8_t, 2>(1), call.out<float, 3>(2),
                          call.integer(0)},
             call.size(2, 0) * call.size(2, 1), call, launch);
  });
}

std::vector<OpCase> block_pool_cases() {
  const auto fill = [](std::string_view operand, std::int64_t i, const Rng&) {
    return operand == "valid" ? (i % 5 == 1 || i < 5 ? 0.0 : 1.0) : NAN;
  };
  return {{{{"row", 2}, {"head", 3}, {"token", 23}, {"dim", 33}, {"block", 5}}, {5}, fill},
          {{{"row", 3}, {"head", 1}, {"token", 7}, {"dim", 4}, {"block", 2}}, {6}, fill}};
}

void block_pool_oracle(OracleCall& c) {
  const auto size = static_cast<std::int64_t>(c.scalars[0]);
  std::fill(c.arrays[2].begin(), c.arrays[2].end(), 0.0);
  for (std::int64_t r = 0; r < c.size(0, 0); ++r) {
    for (std::int64_t t = 0; t < c.size(0, 2); ++t) {
      double count = 0;
      for (std::int64_t u = t / size * size; u < std::min(c.size(0, 2), (t / size + 1) * size); ++u)
        count += c.at(1, r, u) != 0 ? 1 : 0;
      for (std::int64_t h = 0; h < c.size(0, 1) && c.at(1, r, t) != 0; ++h) {
        for (std::int64_t d = 0; d < c.size(0, 3); ++d) {
          c.at(2, r, t / size, d) +=
              c.at(0, r, h, t, d) / count / static_cast<double>(c.size(0, 1));
        }
      }
    }
  }
}

}  // namespace

const OpEntry& block_pool() {
  static const OpEntry entry{
      .name = "block_pool",
      .schema = "x:S[row,head,token,dim] valid:bool[row,token] out>f32[row,block,dim] | size",
      .run = run_block_pool,
      .cases = block_pool_cases,
      .oracle = block_pool_oracle,
      .storage_roundings = 0,
      .float_roundings = 32};
  return entry;
}

}  // namespace ps::PS_BACKEND
