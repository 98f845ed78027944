// The parts of a block-sparse selection, in float64 and one function each, in the order of spec
// sparse.md section 9. b = batch, I = query block, J = key block, n = number of key blocks.
#pragma once

#include "core/sparse.h"
#include "reference/torch.h"

namespace ps::reference {

// ---- blocks.cpp -------------------------------------------------------------------------------

// The caller's mask in any of its forms, joined with causality: bool [B,1 or H,Nq,Nk]. Throws
// std::invalid_argument where it is no mask.
at::Tensor token_mask(const SparseConfig& config, const std::optional<at::Tensor>& given,
                      std::int64_t batch, std::int64_t queries, std::int64_t keys);
// Any over each tile, clipped to the real tokens: [B,H,Nq,Nk] -> [B,H,rows,n]. The first query has
// position `past`, so the first row is block past / Bs.
at::Tensor block_any(const at::Tensor& mask, std::int64_t block, std::int64_t past);
// The mean over the valid tokens of each block, and their number: [B,N,D], [B,N] -> [B,n,D], [B,n].
struct Pooled {
  at::Tensor mean, count;
};
Pooled pool_mean(const at::Tensor& x, const at::Tensor& valid, std::int64_t block,
                 std::int64_t past);

// ---- walk.cpp ---------------------------------------------------------------------------------

// (q.P)(k.P)^T / sqrt(r): [B,rows,n], disallowed cells too.
at::Tensor sketch_scores(const at::Tensor& q, const at::Tensor& k, const at::Tensor& sketch);
// softmax over allowed blocks, to the power s, divided by the greatest of the layer.
at::Tensor transition(const at::Tensor& scores, const at::Tensor& allowed, double exponent);
at::Tensor log_transition(const at::Tensor& scores, const at::Tensor& allowed, double exponent);
// R of the last layer in `steps`, rows divided by their sums; rows without mass stay zero.
at::Tensor walk(const std::vector<at::Tensor>& steps, const at::Tensor& allowed, double damping);
at::Tensor log_walk(const std::vector<at::Tensor>& log_steps, const at::Tensor& allowed,
                    double damping);
// One more layer on a walk of all before it.
at::Tensor walk_on(const at::Tensor& r, const at::Tensor& w, const at::Tensor& allowed,
                   double damping);
at::Tensor log_walk_on(const at::Tensor& r, const at::Tensor& w, const at::Tensor& allowed,
                       double damping);

// ---- select.cpp -------------------------------------------------------------------------------

// Lists for scores [B,h,rows,n]; row 0 is query block `first`.
BlockLists select_walk(const SparseConfig& config, const at::Tensor& scores,
                       const at::Tensor& allowed, std::int64_t first);
BlockLists select_gate(const SparseConfig& config, const at::Tensor& scores,
                       const at::Tensor& allowed, std::int64_t first, bool decode);
// [B,heads,N,D] -> [B,heads,n,pools D]: concatenated on channels, each pool over the block's valid
// tokens (valid [B,N]); zeros without any.
at::Tensor pooled_channels(const std::string& kinds, const at::Tensor& x, const at::Tensor& valid,
                           std::int64_t block, std::int64_t past);
// Of pooled queries [B,H,rows,C] and keys [B,Hk,n,C]: softmax over allowed blocks.
at::Tensor gate_probabilities(const at::Tensor& pq, const at::Tensor& pk, const at::Tensor& wq,
                              const at::Tensor& wk, const at::Tensor& allowed);
// [B,H,Nq,D], [B,Hk,Nk,D] -> softmax over allowed blocks [B,H,rows,n]. Pooled over valid tokens,
// bool [B,Nq] and [B,Nk].
at::Tensor gate_scores(const SparseConfig& config, const at::Tensor& q, const at::Tensor& k,
                       const at::Tensor& q_valid, const at::Tensor& k_valid, const at::Tensor& wq,
                       const at::Tensor& wk, const at::Tensor& allowed, std::int64_t past);
// bool [B,h,Nq,Nk]: the tokens of the listed blocks. Indices that are no block select nothing.
at::Tensor tokens_of(const BlockLists& lists, std::int64_t block, std::int64_t queries,
                     std::int64_t keys);

// ---- attend.cpp -------------------------------------------------------------------------------

struct Attention {
  at::Tensor out, mass;  // [B,H,Nq,D]; [B,H,Nq], undefined without `within`
};
// Differentiable in q, k, v. Query head h reads key head h / (H / Hk).
Attention attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                 const at::Tensor& mask, const at::Tensor& within);

}  // namespace ps::reference
