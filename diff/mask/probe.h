// The mask that an attention really applies, found out from outside (spec masks.md 6.4). The model
// under test keeps its layers, heads, windows, prefix and replicas, and is given weights of our
// own: queries are 0, so that every visible key has the same weight; a token's value is a one-hot
// vector; nothing is added to the residual stream. (Where blocks are selected by queries and keys,
// both are small and the same for every token.) Then a layer's context is positive exactly in
// the columns of visible keys, and head_dim keys are read off per run, in all layers and steps at
// once.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <vector>

#include "core/engine.h"
#include "diff/mask/check.h"

namespace ps::mask {

using OpenProbe = std::function<Result<std::unique_ptr<Engine>>(const Model& probe)>;

struct ProbePlan {
  StepInputs prompt;              // ids do not matter; padding and positions do
  std::int64_t chunk = 0;         // tokens a prefill call; 0 = all at once
  std::int64_t decode_steps = 0;  // one token each, behind the cache
};

struct ProbedMask {
  std::int64_t step = 0, layer = 0;
  std::int64_t past = 0;
  // [replicas * batch, heads, queries, prefix + keys]; of a cross-KV layer [batch, heads, replicas
  // * queries, replicas * keys], index p*S + s.
  Mask mask;
  bool cross_kv = false;
  // No layer before this one has a prefix, so replicas hold the same numbers: one column stands for
  // a key of any replica.
  bool replicas_alike = false;
  // Of a block-sparse layer: the blocks [row, 1 or head, query block, block] that it says it
  // selected, and tokens a block.
  std::vector<std::uint8_t> blocks;
  Shape blocks_shape;
  std::int64_t block_size = 0;  // 0: not sparse
};

Result<std::vector<ProbedMask>> probe_masks(const Model& model, const ProbePlan& plan,
                                            const OpenProbe& open);

// What parscale.md 3.5 says the layer's mask is, for the same rows and columns; of a block-sparse
// layer within the blocks that it selected.
Program expected_program(const ModelConfig& config, const StepInputs& prompt, const ProbedMask& at);

}  // namespace ps::mask
