// The candidate's block-sparse attention (spec sparse.md sections 1 and 2): a walk over blocks
// chooses, products over the chosen blocks attend. Written against Backend, as everything here.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "core/sparse.h"
#include "model/arena.h"
#include "model/backend.h"

namespace ps {

class SparseCandidate final : public SparseEngine {
 public:
  SparseCandidate(const SparseConfig& config, const SparseWeights& weights, DType dtype,
                  std::unique_ptr<Backend> backend);
  Result<SparseLayer> prefill(std::int64_t layer, const SparseInputs& inputs) override;
  Result<SparseLayer> decode(std::int64_t layer, const SparseInputs& inputs) override;
  void reset() override { states_.clear(); }

 private:
  // Bytes [batch, heads, queries, keys]; heads == 1 where all share.
  struct Mask {
    std::int64_t heads = 1, queries = 0;
    std::vector<std::uint8_t> cells;
  };
  // What a layer keeps of its sequence, on the host: a step uploads what it needs.
  struct State {
    std::int64_t batch = 0, tokens = 0;
    Tensor q, k, v;                                    // [B,heads,tokens,D] in the run's dtype
    std::vector<std::uint8_t> key_valid, query_valid;  // [B,tokens]
    std::vector<std::uint8_t> allowed;                 // [B,n,n]
    std::vector<float> log_w, log_r;                   // [B,n,n]
  };
  Result<Mask> mask_of(const SparseInputs& inputs, std::int64_t past) const;
  Result<SparseLayer> run(std::int64_t layer, State& state, const Mask& mask, std::int64_t past,
                          bool decode);
  void choose(std::int64_t layer, State& state, std::int64_t past, bool decode, SparseLayer& out);
  std::vector<float> walked(std::int64_t layer, const State& state, const Array& log_w,
                            const Array& allowed);
  void attend(const State& state, const Mask& mask, std::int64_t past, const BlockLists& lists,
              const Array& q, const Array& k, const Array& v, const Array& out);
  template <class T>
  Array uploaded(DType dtype, std::initializer_list<std::int64_t> sizes, const T* values);
  Array uploaded(const Tensor& t);

  SparseConfig config_;
  DType dtype_;
  std::unique_ptr<Backend> backend_;
  Arena arena_;
  std::vector<float> sketch_;  // [r, D]
  std::map<std::int64_t, State> states_;
};

}  // namespace ps
