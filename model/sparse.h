// The candidate's block-sparse attention alone (spec sparse.md sections 1 to 3): a walk over blocks
// or a gate chooses, products over the chosen blocks attend. Written against Backend, as everything
// here; the parts are in sparse_kernels.h.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "core/sparse.h"
#include "model/arena.h"
#include "model/backend.h"
#include "model/sparse_kernels.h"

namespace ps {

class SparseCandidate final : public SparseEngine {
 public:
  SparseCandidate(const SparseConfig& config, const SparseWeights& weights, DType dtype,
                  std::unique_ptr<Backend> backend);
  Result<SparseLayer> prefill(std::int64_t layer, const SparseInputs& inputs) override;
  Result<SparseLayer> decode(std::int64_t layer, const SparseInputs& inputs) override;
  void reset() override { states_.clear(); }
  // A fault done on purpose, so that the verifier can be measured: the lists as they were chosen,
  // of query blocks `first` onwards, are changed before anything attends over them.
  using PlantedLists = std::function<void(BlockLists& lists, std::int64_t first, bool decode)>;
  void plant_lists(PlantedLists planted) { planted_lists_ = std::move(planted); }

 private:
  // Bytes [batch, heads, queries, keys]; heads == 1 where all share.
  struct Mask {
    std::int64_t heads = 1, queries = 0;
    std::vector<std::uint8_t> cells;
  };
  // What a layer keeps of its sequence, on the host: a step uploads what it needs.
  struct State {
    std::int64_t batch = 0, tokens = 0, mask_heads = 1;
    Tensor q, k, v;                        // [B,heads,tokens,D] in the run's dtype
    std::vector<std::uint8_t> head_valid;  // [B,mask_heads,tokens]: keys that somebody sees
    std::vector<std::uint8_t> key_valid, query_valid;  // [B,tokens]
    std::vector<std::uint8_t> allowed;                 // a walk's [B,n,n]
    std::vector<float> log_w, log_r;                   // [B,n,n]
  };
  bool walks() const { return config_.selector == SparseSelector::kWalk; }
  Result<Mask> mask_of(const SparseInputs& inputs, std::int64_t past) const;
  Result<SparseLayer> run(std::int64_t layer, State& state, const Mask& mask, std::int64_t past,
                          bool decode);
  void choose_walk(std::int64_t layer, State& state, std::int64_t past, bool decode,
                   SparseLayer& out);
  void choose_gate(const State& state, const Mask& mask, std::int64_t past, bool decode,
                   SparseLayer& out);
  Array walked(std::int64_t layer, const State& state, const Array& log_w, const Array& allowed);
  void show_walk(const State& state, const std::vector<float>& scores, std::int64_t first,
                 SparseLayer& out) const;
  void attend(const State& state, const Mask& mask, std::int64_t past, const BlockLists& lists,
              const Array& out);
  Array uploaded(const Tensor& t);

  SparseConfig config_;
  DType dtype_;
  std::unique_ptr<Backend> backend_;
  Arena arena_;
  SparseKernels kernels_;
  std::vector<float> sketch_;           // [r, D]
  std::vector<float> gate_q_, gate_k_;  // [H, C, g], [H, g, C]
  std::int64_t gate_channels_ = 0, gate_dim_ = 0;
  std::map<std::int64_t, State> states_;
  PlantedLists planted_lists_;
};

}  // namespace ps
