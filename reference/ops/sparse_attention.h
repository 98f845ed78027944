// Block-sparse attention as ops of a net: every step of the selection writes a point, so that a
// wrong mean, score, walk or list is told from a kernel that attends something else.
#pragma once

#include "core/sparse_attention.h"
#include "reference/net.h"

namespace ps::reference {

// model:block_allowed [B,n,n]: blocks with an allowed pair, by causality and padding.
Point block_allowed(Net& net, const SparseAttention& sparse);
// From rotated queries [R,H,S,D] and the cache [R,K,C,D] to probabilities [R,H,S,C], zero outside
// the selected blocks.
Point sparse_probs(Net& net, const SparseAttention& sparse, std::int64_t layer, const Point& q,
                   const Point& k_cache, const Point& mask);

// ---- for bounds and faults: arithmetic on tensors -----------------------------------------------

struct BlockSteps {  // of this step
  std::int64_t block = 0, past = 0, total = 0, blocks = 0, first = 0;
  bool decode = false;  // one token behind a cache
};
BlockSteps block_steps(const StepContext& c, const SparseConfig& config);
at::Tensor real_tokens(const StepContext& c);                            // bool [B,past + S]
at::Tensor by_rows(const StepContext& c, const at::Tensor& of_samples);  // [B,..] -> [R,..]
// The sketch [D,r], or gate weights [H,C,g]: what the op was given, or made from the seed.
at::Tensor sketch_of(const SparseAttention& sparse, const Tensors& w, at::ScalarType type);
std::pair<at::Tensor, at::Tensor> gates_of(const SparseAttention& sparse, std::int64_t layer,
                                           const Tensors& w, at::ScalarType type);
at::Tensor log_transitions(const at::Tensor& scores, const at::Tensor& allowed, double exponent);
// before: of the layer before, or undefined.
at::Tensor log_walks(const at::Tensor& before, const std::vector<at::Tensor>& steps,
                     const at::Tensor& allowed, double damping);
// Ones and zeros [R,h,m,n] from scores [R,h,m,n] and allowed, which broadcasts.
at::Tensor selected(const SparseConfig& config, const at::Tensor& scores, const at::Tensor& allowed,
                    const BlockSteps& steps);
// The same from what the op reads: a walk [R,n,n] or a gate's scores [R,H,m,n], and block_allowed.
at::Tensor selected_from(const StepContext& c, const SparseConfig& config, const Tensors& in);
// bool [R,h,S,C]: prefix slots, and tokens of selected blocks.
at::Tensor selected_columns(const StepContext& c, const BlockSteps& steps,
                            const at::Tensor& block_mask);

}  // namespace ps::reference
