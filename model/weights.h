// A model's weights, by role, as the backend can read them. An absent one (no bias, no prefix) is
// an Array without axes. Names and shapes are parscale.md section 2.
#pragma once

#include <vector>

#include "core/checkpoint.h"
#include "model/backend.h"

namespace ps {

struct Plant;

struct Linear {
  Array weight;  // [out, in], maybe in the checkpoint's own dtype
  Array bias;    // [out] or absent
};

struct AttentionWeights {
  Linear q, k, v, o;
  Array q_norm, k_norm;      // [dim]; Qwen3
  Array prefix_k, prefix_v;  // [replica, kv_head, prefix, dim] or absent
};

struct LayerWeights {
  Array cross_norm;  // [hidden]; layers with cross-replica attention
  AttentionWeights cross;
  Array input_norm, post_norm;  // [hidden]
  AttentionWeights self;
  Linear gate, up, down;
};

struct Weights {
  Array embedding;  // [vocab, hidden], maybe in the checkpoint's own dtype
  std::vector<LayerWeights> layers;
  Array norm;                       // [hidden]
  Linear aggregate_0, aggregate_2;  // P > 1
  Linear head;                      // the embedding where weights are tied
  std::vector<Tensor> planted;      // copies that a plant edited; the arrays above point into them
};

// Error for a tensor that is missing or has another shape than the config asks for. `plant` may be
// null; else it edits what was stored.
Result<Weights> load_weights(const Model& model, DType dtype, Backend& backend, const Plant* plant);

}  // namespace ps
