// Replica RoPE: the half-split rotation with the interleaved tables. Not a rotation (norms change),
// and what upstream computes (parscale.md 5). Float tables, one rounding.
#pragma once

#include "model/ops/op.h"

namespace ps::PS_BACKEND {
namespace {

template <class S>
struct ReplicaRope {
  Global<const S, 5> x;           // [sample, token, head, replica, dim], any strides
  Global<const float, 3> cosine;  // [sample, replica, dim]
  Global<const float, 3> sine;    // [sample, replica, dim]
  Global<S, 5> out;               // [sample, token, head, replica, dim]

  template <class Block>
  PS_HD void operator()(Block& block) const {
    const std::int64_t tokens = x.size(1), replicas = x.size(3), half = x.size(4) / 2;
    const std::int64_t replica = block.index() % replicas;
    const std::int64_t token = block.index() / replicas % tokens;
    const std::int64_t sample = block.index() / replicas / tokens;
    block.each(x.size(4), [&](Thread, std::int64_t d) {
      const float c = block.load(cosine, sample, replica, d);
      const float s = block.load(sine, sample, replica, d);
      const std::int64_t partner = d < half ? d + half : d - half;
      const float sign = d < half ? -1.f : 1.f;
      for (std::int64_t head = 0; head < x.size(2); ++head) {
        const float turned = sign * block.load(x, sample, token, head, replica, partner);
        block.store(out, block.load(x, sample, token, head, replica, d) * c + turned * s, sample,
                    token, head, replica, d);
      }
    });
  }
};

void run_replica_rope(const OpCall& call, Launch& launch) {
  with_storage(call.arrays[0].dtype(), [&]<class S>(S) {
    run_grid(ReplicaRope<S>{call.in<S, 5>(0), call.in<float, 3>(1), call.in<float, 3>(2),
                            call.out<S, 5>(3)},
             call.size(0, 0) * call.size(0, 1) * call.size(0, 3), call, launch);
  });
}

std::vector<OpCase> replica_rope_cases() {
  return {{{{"sample", 2}, {"token", 3}, {"head", 5}, {"replica", 4}, {"dim", 6}}, {}, nullptr},
          {{{"sample", 1}, {"token", 2}, {"head", 1}, {"replica", 3}, {"dim", 66}}, {}, nullptr}};
}

void replica_rope_oracle(OracleCall& c) {
  const std::int64_t half = c.size(0, 4) / 2;
  for (std::int64_t i = 0; i < c.size(0, 0); ++i) {
    for (std::int64_t t = 0; t < c.size(0, 1); ++t) {
      for (std::int64_t h = 0; h < c.size(0, 2); ++h) {
        for (std::int64_t p = 0; p < c.size(0, 3); ++p) {
          for (std::int64_t j = 0; j < half; ++j) {
            const double first = c.at(0, i, t, h, p, j), second = c.at(0, i, t, h, p, j + half);
            c.at(3, i, t, h, p, j) = first * c.at(1, i, p, j) - second * c.at(2, i, p, j);
            c.at(3, i, t, h, p, j + half) =
                second * c.at(1, i, p, j + half) + first * c.at(2, i, p, j + half);
          }
        }
      }
    }
  }
}

}  // namespace

const OpEntry& replica_rope() {
  static const OpEntry entry{.name = "replica_rope",
                             .schema =
                                 "x:S[sample,token,head,replica,dim] cos:f32[sample,replica,dim] "
                                 "sin:f32[sample,replica,dim] out>S[sample,token,head,replica,dim]",
                             .run = run_replica_rope,
                             .cases = replica_rope_cases,
                             .oracle = replica_rope_oracle,
                             .storage_roundings = 1,
                             .float_roundings = 3};
  return entry;
}

}  // namespace ps::PS_BACKEND
