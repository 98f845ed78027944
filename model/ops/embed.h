// Embedding, repeated for the replicas: row p*samples + i of the result is sample i
// (parscale.md 3.1). The table may be stored in another type than the activations.
#pragma once

#include "model/ops/op.h"

namespace ps::PS_BACKEND {
namespace {

template <class S, class W>
struct Embed {
  Global<const std::int64_t, 2> ids;  // [sample, token]
  Global<const W, 2> table;           // [vocab, hidden]
  Global<S, 3> out;                   // [row, token, hidden]

  template <class Block>
  PS_HD void operator()(Block& block) const {
    const std::int64_t row = block.index() / ids.size(1);
    const std::int64_t token = block.index() % ids.size(1);
    const std::int64_t sample = row % ids.size(0);
    block.each(out.size(2), [&](Thread, std::int64_t c) {
      block.store(out, block.load(table, block.load(ids, sample, token), c), row, token, c);
    });
  }
};

void run_embed(const OpCall& call, Launch& launch) {
  with_storage(call.arrays[2].dtype(), [&]<class S>(S) {
    with_storage(call.arrays[1].dtype(), [&]<class W>(W) {
      run_grid(Embed<S, W>{call.in<std::int64_t, 2>(0), call.in<W, 2>(1), call.out<S, 3>(2)},
               call.size(2, 0) * call.size(2, 1), call, launch);
    });
  });
}

std::vector<OpCase> embed_cases() {
  const auto ids = [](std::string_view operand, std::int64_t i, const Rng& rng) {
    return operand == "ids" ? static_cast<double>(rng.below(static_cast<std::uint64_t>(i), 11))
                            : NAN;
  };
  return {{{{"sample", 2}, {"token", 5}, {"vocab", 11}, {"hidden", 33}, {"row", 6}}, {}, ids},
          {{{"sample", 3}, {"token", 1}, {"vocab", 11}, {"hidden", 7}, {"row", 3}}, {}, ids}};
}

void embed_oracle(OracleCall& c) {
  for (std::int64_t r = 0; r < c.size(2, 0); ++r) {
    for (std::int64_t t = 0; t < c.size(2, 1); ++t) {
      for (std::int64_t h = 0; h < c.size(2, 2); ++h) {
        c.at(2, r, t, h) = c.at(1, static_cast<std::int64_t>(c.at(0, r % c.size(0, 0), t)), h);
      }
    }
  }
}

}  // namespace

const OpEntry& embed() {
  static const OpEntry entry{
      .name = "embed",
      .schema = "ids:i64[sample,token] table:W[vocab,hidden] out>S[row,token,hidden]",
      .run = run_embed,
      .cases = embed_cases,
      .oracle = embed_oracle,
      .storage_roundings = 1,
      .float_roundings = 0};
  return entry;
}

}  // namespace ps::PS_BACKEND
