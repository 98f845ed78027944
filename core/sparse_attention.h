// Block-sparse attention as a kind of a model's attention: "sparse_attention" in config.json, under
// the names of a case's config, with "selector" walk or gate. Layers from `skip` on are sparse.
// Blocks are of token columns; the slots of a prefix are no part of them and always attended.
// Every replica selects for itself.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/checkpoint.h"
#include "core/config.h"
#include "core/result.h"
#include "core/sparse.h"

namespace ps {

struct SparseAttention {
  SparseConfig config;  // heads, head_dim and layers are the model's; batch and length are not set
  std::int64_t gate_dim = 32;
  // The projection is made from it; absent: it stands in the checkpoint.
  std::optional<std::int64_t> seed;

  bool sparse(std::int64_t layer) const { return layer >= config.skip; }
  bool walks() const { return config.selector == SparseSelector::kWalk; }
  std::int64_t pools() const;  // of the gate
};

// Nothing where attention is dense. Error: a field that is wrong, or layers that cannot be sparse.
Result<std::optional<SparseAttention>> read_sparse_attention(const ModelConfig& config);
// Of a config that has been checked.
std::optional<SparseAttention> sparse_attention(const ModelConfig& config);

// Checkpoint names: model.sparse_attention.sketch [D,r]; model.layers.N.self_attn.gate_q and
// .gate_k [H, pools D, gate_dim].
std::string sketch_name();
std::string gate_name(std::int64_t layer, char side);  // 'q' or 'k'
// The projections of a layer, from the checkpoint or the seed. They are data, as weights are: both
// engines are given the same.
Result<SparseWeights> sparse_weights(const SparseAttention& attention, const Checkpoint* checkpoint,
                                     std::int64_t layer);
SparseWeights seeded_sparse_weights(const SparseAttention& attention, std::int64_t layer);

// "walk", "gate:bs=16,thr=0.01", "dense": the config's text with this kind of attention in it. A
// seed is put in where the checkpoint has no projection.
Result<std::string> with_attention(const std::string& config_json, std::string_view kind,
                                   const Checkpoint& checkpoint);

}  // namespace ps
