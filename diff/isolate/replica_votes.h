// Fills diff/report/replicas.h from a step of a check.
#pragma once

#include "core/config.h"
#include "core/engine.h"
#include "core/result.h"
#include "diff/report/replicas.h"

namespace ps {

// The values of a step that votes are counted from: model.norm [P*B,S,h] and
// model:aggregate_weights [B,S,P].
struct ReplicaOutputs {
  TensorView norm, weights;
};

struct ReplicaVotesOptions {
  std::int64_t top = 3;
  std::int64_t most_tokens = 64;  // a step; the last ones of each sample
  // Multiplications of lm_head a step, for both sides; one token a sample is always counted.
  double most_work = 1.7e10;
};

// Adds the tokens of one step. `expected` are the reference's own values. The reference's lm_head
// is used for both.
Result<void> add_replica_votes(Reference& reference, const ModelConfig& config,
                               const StepInputs& inputs, std::int64_t step, std::int64_t past,
                               const ReplicaOutputs& candidate, const ReplicaOutputs& expected,
                               const ReplicaVotesOptions& options, ReplicaVotes& votes);

}  // namespace ps
