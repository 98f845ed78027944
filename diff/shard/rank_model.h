// Ranks that can run: a plan and the weights behind it, as core/ranks.h wants them.
#pragma once

#include <map>
#include <string>
#include <utility>

#include "core/ranks.h"
#include "diff/shard/bytes.h"

namespace ps {

// The config that a rank computes with.
ModelConfig rank_config(const ModelConfig& config, const RankShare& share);

// Weights are cut out of the checkpoint when an op asks for them. `sources` must outlive the ranks.
Result<RankModel> rank_model(const ModelConfig& config, std::int64_t tp,
                             const SourceLookup& sources, const PlanOptions& options);

// Shards as a rank holds them, by rank and destination ("layers.0.self_attn.qkv_proj.weight").
using RankShards = std::map<std::pair<std::int64_t, std::string>, Tensor>;
// Ranks that run on given shards, right or wrong. `plan` is fused.
RankModel rank_model_of(const ModelConfig& config, const Plan& plan, RankShards shards);

}  // namespace ps
