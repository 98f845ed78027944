// The reference of block-sparse attention: float64, step by step as spec sparse.md says it.
#pragma once

#include <map>
#include <vector>

#include "core/sparse.h"
#include "reference/torch.h"

namespace ps::reference {

class SparseReferenceEngine final : public SparseReference {
 public:
  SparseReferenceEngine(const SparseConfig& config, const SparseWeights& weights);

  Result<SparseLayer> prefill(std::int64_t layer, const SparseInputs& inputs) override;
  Result<SparseLayer> decode(std::int64_t layer, const SparseInputs& inputs) override;
  void reset() override { states_.clear(); }
  Result<SparseAttended> attend(const SparseInputs& inputs, const TensorView& within) override;
  Result<SparseGradients> gradients(const SparseInputs& inputs, const TensorView& g) override;

 private:
  // What a layer remembers of the sequence, for the layers after it and for decode steps.
  struct State {
    at::Tensor q, k, v;   // everything so far, [B,H or Hk,N,D]
    at::Tensor mask;      // bool [B,1 or H,1,N]: the keys that anybody could see
    at::Tensor blocks;    // bool [B,rows,n], any over heads
    at::Tensor q_valid;   // bool [B,N]
    at::Tensor w, log_w;  // [B,n,n]
    at::Tensor r, log_r;  // of the walk over all layers so far
  };
  SparseLayer select(std::int64_t layer, State& state, const at::Tensor& mask, std::int64_t past,
                     bool decode);
  void walk_layer(std::int64_t layer, State& state, std::int64_t first, SparseLayer& out,
                  const at::Tensor& q_blocks, const at::Tensor& k_blocks);
  Result<void> in_order(std::int64_t layer, bool decode) const;

  SparseConfig config_;
  at::Tensor sketch_, gate_wq_, gate_wk_;  // float64
  std::map<std::int64_t, State> states_;
};

}  // namespace ps::reference
