// What each replica of a ParScale model says about the next token, and what the others would say
// without it. With y[p] = row p of model.norm and w = model:aggregate_weights:
//
//   replica p's logits      L[p] = lm_head(y[p])
//   the aggregate's         L = sum of w[p] L[p]       (lm_head has no bias, so it is its logits)
//   without replica p       (L - w[p] L[p]) / (1 - w[p]): the other weights, made to add up to 1
//   disagreement            the Jensen-Shannon divergence of the replicas' softmax(L[p]), all
//                           weighing the same, over ln P: 0 all alike, 1 as far apart as can be
//
// y and w are the candidate's own; lm_head is the reference's, in its own type.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ps {

struct ReplicaToken {
  std::int64_t step = 0;
  std::int64_t batch = 0;
  std::int64_t token = 0;  // of the step
  std::int64_t input_id = 0;
  std::int64_t argmax = 0;                   // of the aggregate
  double js = 0;                             // 0 to 1
  std::vector<double> weights;               // [P]
  std::vector<std::int64_t> replica_argmax;  // [P]
  std::vector<std::int64_t> without_argmax;  // [P]; other than argmax: replica p flips the token
  struct Choice {
    std::int64_t id = 0;
    double logit = 0;
    std::vector<double> replica, without;  // [P]
  };
  std::vector<Choice> top;  // the aggregate's best, best first
  // Of the reference's own run.
  std::int64_t expected_argmax = 0;
  double expected_js = 0;
  std::vector<double> expected_weights;
  std::vector<std::int64_t> expected_replica_argmax;

  std::vector<std::int64_t> flips() const;
  bool disagrees() const;  // not all replicas choose one token
};

struct ReplicaVotes {
  std::int64_t replicas = 0;
  std::int64_t left_out = 0;  // real tokens without a row, because they would be too many
  std::vector<ReplicaToken> tokens;
};

}  // namespace ps
