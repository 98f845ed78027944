// Cross-replica attention, second half: probs times the replicas' values.
#pragma once

#include "model/ops/op.h"

namespace ps::PS_BACKEND {
namespace {

template <class S>
struct CrossContext {
  Global<const S, 5> probs;  // [sample, token, head, replica, other]
  Global<const S, 5> v;      // [sample, token, kv_head, other, dim], any strides
  Global<S, 5> out;          // [sample, token, head, replica, dim], any strides

  template <class Block>
  PS_HD void operator()(Block& block) const {
    const std::int64_t tokens = probs.size(1);
    const std::int64_t sample = block.index() / tokens, token = block.index() % tokens;
    const std::int64_t group = probs.size(2) / v.size(2);
    block.each(v.size(4), [&](Thread, std::int64_t d) {
      for (std::int64_t head = 0; head < probs.size(2); ++head) {
        for (std::int64_t replica = 0; replica < probs.size(3); ++replica) {
          float sum = 0.f;
          for (std::int64_t other = 0; other < v.size(3); ++other) {
            sum += block.load(probs, sample, token, head, replica, other) *
                   block.load(v, sample, token, head / group, other, d);
          }
          block.store(out, sum, sample, token, head, replica, d);
        }
      }
    });
  }
};

void run_cross_context(const OpCall& call, Launch& launch) {
  with_storage(call.arrays[0].dtype(), [&]<class S>(S) {
    run_grid(CrossContext<S>{call.in<S, 5>(0), call.in<S, 5>(1), call.out<S, 5>(2)},
             call.size(0, 0) * call.size(0, 1), call, launch);
  });
}

std::vector<OpCase> cross_context_cases() {
  return {{{{"sample", 2},
            {"token", 3},
            {"head", 6},
            {"kv_head", 2},
            {"replica", 4},
            {"other", 4},
            {"dim", 10}},
           {},
           nullptr},
          {{{"sample", 2},
            {"token", 5},
            {"head", 3},
            {"kv_head", 1},
            {"replica", 3},
            {"other", 3},
            {"dim", 67}},
           {},
           nullptr}};
}

void cross_context_oracle(OracleCall& c) {
  const std::int64_t group = c.size(0, 2) / c.size(1, 2);
  for (std::int64_t i = 0; i < c.size(0, 0); ++i) {
    for (std::int64_t t = 0; t < c.size(0, 1); ++t) {
      for (std::int64_t h = 0; h < c.size(0, 2); ++h) {
        for (std::int64_t p = 0; p < c.size(0, 3); ++p) {
          for (std::int64_t d = 0; d < c.size(1, 4); ++d) {
            double sum = 0;
            for (std::int64_t o = 0; o < c.size(0, 4); ++o)
              sum += c.at(0, i, t, h, p, o) * c.at(1, i, t, h / group, o, d);
            c.at(2, i, t, h, p, d) = sum;
          }
        }
      }
    }
  }
}

}  // namespace

const OpEntry& cross_context() {
  static const OpEntry entry{
      .name = "cross_context",
      .schema =
          "probs:S[sample,token,head,replica,other] v:S[sample,token,kv_head,other,dim] "
          "out>S[sample,token,head,replica,dim]",
      .run = run_cross_context,
      .cases = cross_context_cases,
      .oracle = cross_context_oracle,
      .storage_roundings = 1,
      .float_roundings = 16};
  return entry;
}

}  // namespace ps::PS_BACKEND
