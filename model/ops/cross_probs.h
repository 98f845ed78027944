// Cross-replica attention, first half: softmax over the P replicas of q.k scale, for every token on
// its own (parscale.md 5). No mask: a replica sees all, itself included. One thread a (head,
// replica).
#pragma once

#include "model/ops/op.h"

namespace ps::PS_BACKEND {
namespace {

template <class S>
struct CrossProbs {
  Global<const S, 5> q;  // [sample, token, head, replica, dim], any strides
  Global<const S, 5> k;  // [sample, token, kv_head, other, dim], any strides
  Global<S, 5> out;      // [sample, token, head, replica, other]
  float scale;

  template <class Block>
  PS_HD void operator()(Block& block) const {
    const std::int64_t tokens = q.size(1), replicas = q.size(3);
    const std::int64_t sample = block.index() / tokens, token = block.index() % tokens;
    const std::int64_t group = q.size(2) / k.size(2);
    block.each(q.size(2) * replicas, [&](Thread, std::int64_t i) {
      const std::int64_t head = i / replicas, replica = i % replicas, kv_head = head / group;
      const auto score = [&](std::int64_t other) {
        float sum = 0.f;
        for (std::int64_t d = 0; d < q.size(4); ++d) {
          sum += block.load(q, sample, token, head, replica, d) *
                 block.load(k, sample, token, kv_head, other, d);
        }
        return sum * scale;
      };
      float largest = -INFINITY, sum = 0.f;
      for (std::int64_t other = 0; other < k.size(3); ++other) {
        const float s = score(other);
        largest = s > largest ? s : largest;
      }
      for (std::int64_t other = 0; other < k.size(3); ++other)
        sum += exponential(score(other) - largest);
      for (std::int64_t other = 0; other < k.size(3); ++other) {
        block.store(out, exponential(score(other) - largest) / sum, sample, token, head, replica,
                    other);
      }
    });
  }
};

void run_cross_probs(const OpCall& call, Launch& launch) {
  with_storage(call.arrays[0].dtype(), [&]<class S>(S) {
    run_grid(CrossProbs<S>{call.in<S, 5>(0), call.in<S, 5>(1), call.out<S, 5>(2), call.number(0)},
             call.size(0, 0) * call.size(0, 1), call, launch);
  });
}

std::vector<OpCase> cross_probs_cases() {
  return {{{{"sample", 2},
            {"token", 3},
            {"head", 6},
            {"kv_head", 2},
            {"replica", 4},
            {"other", 4},
            {"dim", 10}},
           {0.3},
           nullptr},
          {{{"sample", 1},
            {"token", 5},
            {"head", 3},
            {"kv_head", 3},
            {"replica", 2},
            {"other", 2},
            {"dim", 7}},
           {0.4},
           nullptr},
          {{{"sample", 1},
            {"token", 1},
            {"head", 15},
            {"kv_head", 5},
            {"replica", 7},
            {"other", 7},
            {"dim", 3}},
           {0.6},
           nullptr}};
}

void cross_probs_oracle(OracleCall& c) {
  const std::int64_t replicas = c.size(0, 3), group = c.size(0, 2) / c.size(1, 2);
  for (std::int64_t i = 0; i < c.size(0, 0); ++i) {
    for (std::int64_t t = 0; t < c.size(0, 1); ++t) {
      for (std::int64_t h = 0; h < c.size(0, 2); ++h) {
        for (std::int64_t p = 0; p < replicas; ++p) {
          double sum = 0;
          for (std::int64_t o = 0; o < replicas; ++o) {
            double dot = 0;
            for (std::int64_t d = 0; d < c.size(0, 4); ++d)
              dot += c.at(0, i, t, h, p, d) * c.at(1, i, t, h / group, o, d);
            c.at(2, i, t, h, p, o) = std::exp(dot * c.scalars[0]);
            sum += c.at(2, i, t, h, p, o);
          }
          for (std::int64_t o = 0; o < replicas; ++o) c.at(2, i, t, h, p, o) /= sum;
        }
      }
    }
  }
}

}  // namespace

const OpEntry& cross_probs() {
  static const OpEntry entry{
      .name = "cross_probs",
      .schema =
          "q:S[sample,token,head,replica,dim] k:S[sample,token,kv_head,other,dim] "
          "out>S[sample,token,head,replica,other] | scale",
      .run = run_cross_probs,
      .cases = cross_probs_cases,
      .oracle = cross_probs_oracle,
      .storage_roundings = 1,
      .float_roundings = 64};
  return entry;
}

}  // namespace ps::PS_BACKEND
