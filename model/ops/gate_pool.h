// What a gate reads of a block of tokens: the mean, the greatest or the smallest of each channel,
// head by head, over the valid tokens of the block by their true number. The first token has
// position `past`, so the first block may be cut; a block without a valid token gives zeros. One
// block a block of tokens and head.
#pragma once

#include "model/ops/op.h"

namespace ps::PS_BACKEND {
namespace {

enum class Pooling : std::int32_t { kMean, kMax, kMin };

template <class S>
struct GatePool {
  Global<const S, 4> x;                 // [row, head, token, dim]
  Global<const std::uint8_t, 2> valid;  // [row, token]
  Global<float, 4> out;                 // [row, head, block, dim]
  std::int64_t size, past;
  Pooling pooling;

  template <class Block>
  PS_HD void operator()(Block& block) const {
    const std::int64_t own = block.index() % out.size(2);
    const std::int64_t head = block.index() / out.size(2) % out.size(1);
    const std::int64_t row = block.index() / out.size(2) / out.size(1);
    const std::int64_t from = (past / size + own) * size - past;
    const std::int64_t begin = from > 0 ? from : 0;
    const std::int64_t end = from + size < x.size(2) ? from + size : x.size(2);
    block.each(out.size(3), [&](Thread, std::int64_t d) {
      float sum = 0.f, extreme = 0.f;
      std::int64_t count = 0;
      for (std::int64_t t = begin; t < end; ++t) {
        if (block.load(valid, row, t) == 0) continue;
        const float value = block.load(x, row, head, t, d);
        const bool further = pooling == Pooling::kMax ? value > extreme : value < extreme;
        if (count == 0 || further) extreme = value;
        sum += value;
        ++count;
      }
      const float mean = count == 0 ? 0.f : sum / static_cast<float>(count);
      block.store(out, pooling == Pooling::kMean ? mean : extreme, row, head, own, d);
    });
  }
};

void run_gate_pool(const OpCall& call, Launch& launch) {
  with_storage(call.arrays[0].dtype(), [&]<class S>(S) {
    run_grid(GatePool<S>{call.in<S, 4>(0), call.in<std::uint8_t, 2>(1), call.out<float, 4>(2),
                         call.integer(0), call.integer(1), static_cast<Pooling>(call.integer(2))},
             call.size(2, 0) * call.size(2, 1) * call.size(2, 2), call, launch);
  });
}

std::vector<OpCase> gate_pool_cases() {
  // Some tokens are no tokens, and so is the whole first block.
  const auto fill = [](std::string_view operand, std::int64_t i, const Rng&) {
    return operand == "valid" ? (i % 5 == 1 || i < 5 ? 0.0 : 1.0) : NAN;
  };
  std::vector<OpCase> cases;
  for (const double pooling : {0.0, 1.0, 2.0}) {
    cases.push_back({{{"row", 2}, {"head", 3}, {"token", 23}, {"dim", 33}, {"block", 5}},
                     {5, 0, pooling},
                     fill});
    cases.push_back({{{"row", 3}, {"head", 2}, {"token", 8}, {"dim", 7}, {"block", 4}},
                     {3, 11, pooling},
                     fill});
    cases.push_back({{{"row", 4}, {"head", 3}, {"token", 1}, {"dim", 5}, {"block", 1}},
                     {6, 17, pooling},
                     fill});
  }
  return cases;
}

void gate_pool_oracle(OracleCall& c) {
  const auto size = static_cast<std::int64_t>(c.scalars[0]);
  const auto past = static_cast<std::int64_t>(c.scalars[1]);
  for (std::int64_t r = 0; r < c.size(2, 0); ++r) {
    for (std::int64_t h = 0; h < c.size(2, 1); ++h) {
      for (std::int64_t n = 0; n < c.size(2, 2); ++n) {
        for (std::int64_t d = 0; d < c.size(2, 3); ++d) {
          std::vector<double> members;
          for (std::int64_t t = 0; t < c.size(0, 2); ++t) {
            const bool here = (past + t) / size - past / size == n;
            if (here && c.at(1, r, t) != 0) members.push_back(c.at(0, r, h, t, d));
          }
          std::sort(members.begin(), members.end());
          double value = 0;
          if (!members.empty()) {
            if (c.scalars[2] == 1) value = members.back();
            if (c.scalars[2] == 2) value = members.front();
            for (const double m : members) {
              if (c.scalars[2] == 0) value += m / static_cast<double>(members.size());
            }
          }
          c.at(2, r, h, n, d) = value;
        }
      }
    }
  }
}

}  // namespace

const OpEntry& gate_pool() {
  static const OpEntry entry{
      .name = "gate_pool",
      .schema =
          "x:S[row,head,token,dim] valid:bool[row,token] out>f32[row,head,block,dim] | size past "
          "pooling",
      .run = run_gate_pool,
      .cases = gate_pool_cases,
      .oracle = gate_pool_oracle,
      .storage_roundings = 0,
      .float_roundings = 16};
  return entry;
}

}  // namespace ps::PS_BACKEND
