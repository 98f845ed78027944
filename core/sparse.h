// Block-sparse attention: what an implementation is given and what it hands back (spec sparse.md).
// The reference, the candidate and whatever a test plants all are a SparseEngine, so one verifier
// can question any of them.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/result.h"
#include "core/tensor.h"

namespace ps {

enum class SparseSelector : std::uint8_t { kWalk, kGate };
enum class GateRule : std::uint8_t { kThreshold, kNzRatio, kTokenBudget };

struct SparseConfig {
  std::int64_t batch = 1;
  std::int64_t heads = 1;     // H
  std::int64_t kv_heads = 1;  // Hk divides H
  std::int64_t length = 1;    // N of the prefill
  std::int64_t head_dim = 1;  // D
  std::int64_t block = 64;    // Bs
  std::int64_t sketch = 64;   // r
  std::int64_t tau = 16;
  double exponent = 8;  // s
  std::int64_t layers = 1;
  std::int64_t skip = 2;  // layers before it are dense and select nothing
  std::int64_t sinks = 1, locals = 1;
  bool causal = true;
  SparseSelector selector = SparseSelector::kWalk;
  // The walk's own options.
  std::int64_t depth = 0;          // R from the last `depth` transitions; 0 = from all
  double damping = 0;              // R = damping W + (1 - damping) R.W
  std::int64_t decode_window = 1;  // newest queries of a block that a decode step averages
  // The gate's.
  GateRule gate = GateRule::kThreshold;
  double threshold = 0, nz_ratio = 0;
  std::int64_t token_budget = 0;
  std::string pool = "avg";       // any of avg, max, min, joined by '+'
  bool last_block_dense = false;  // the last two block rows see everything

  std::int64_t blocks(std::int64_t tokens) const { return (tokens + block - 1) / block; }
};

// What a walk is projected with ([D,r]), or a gate weighs with ([H, pools D, gate_dim] each).
struct SparseWeights {
  Tensor sketch, gate_wq, gate_wk;
};

// Ascending distinct indices of key blocks, one list a query block; heads == 1 where all heads
// share. From others they may be anything.
struct BlockLists {
  std::int64_t batch = 0, heads = 0, rows = 0;
  std::vector<std::vector<std::int32_t>> lists;  // [batch, heads, rows]

  BlockLists() = default;
  BlockLists(std::int64_t b, std::int64_t h, std::int64_t n)
      : batch(b), heads(h), rows(n), lists(static_cast<std::size_t>(b * h * n)) {}
  bool empty() const { return lists.empty(); }
  std::vector<std::int32_t>& at(std::int64_t b, std::int64_t h, std::int64_t i) {
    return lists[static_cast<std::size_t>((b * heads + (heads == 1 ? 0 : h)) * rows + i)];
  }
  const std::vector<std::int32_t>& at(std::int64_t b, std::int64_t h, std::int64_t i) const {
    return const_cast<BlockLists*>(this)->at(b, h, i);  // NOLINT: one index rule for both
  }
};

// One layer's call. Queries are the last Nq of the Nk tokens.
struct SparseInputs {
  TensorView q, k, v;  // [B,H,Nq,D], [B,Hk,Nk,D] twice; a decode step: Nq = Nk = 1, the new token
  // [B,Nq,Nk], [B,1,Nq,Nk] or [B,H,Nq,Nk]; true = may attend, or added to scores: 0 or very
  // negative. Joined with causality. Absent: causality alone, or everything.
  std::optional<TensorView> mask;
};

// What came out. A tensor that a selector has no use for, or an engine does not show, is empty.
struct SparseLayer {
  BlockLists lists;      // empty: the layer is dense. Row 0 is the block of the first query
  Tensor block_allowed;  // u8 [B or B*H, rows, nb]
  Tensor key_blocks;     // [B,nb,D], the means of the keys
  Tensor scores;         // [B or B*H, rows, nb]; a gate's after its softmax
  Tensor transition;     // [B,rows,nb], a walk's W
  Tensor walk;           // [B,rows,nb], R with rows divided by their sums
  Tensor log_walk;       // the same in logarithms, where the engine certifies itself
  Tensor out;            // [B,H,Nq,D]
};

class SparseEngine {
 public:
  virtual ~SparseEngine() = default;
  // Layers come in order; the first of them starts a new sequence.
  virtual Result<SparseLayer> prefill(std::int64_t layer, const SparseInputs& inputs) = 0;
  // The next token of the sequence, layer by layer.
  virtual Result<SparseLayer> decode(std::int64_t layer, const SparseInputs& inputs) = 0;
  virtual void reset() = 0;
};

struct SparseAttended {
  Tensor out;   // float64 [B,H,Nq,D]; zeros where the mask allows nothing
  Tensor mass;  // float64 [B,H,Nq]: the probability that lies on `within`
};
struct SparseGradients {
  Tensor dq, dk, dv;  // float64
};

// The truth, in float64.
class SparseReference : public SparseEngine {
 public:
  // Attention over a boolean mask [B,1 or H,Nq,Nk]; `within` has the same shape.
  virtual Result<SparseAttended> attend(const SparseInputs& inputs, const TensorView& within) = 0;
  // Of sum(out * g), by autograd.
  virtual Result<SparseGradients> gradients(const SparseInputs& inputs, const TensorView& g) = 0;
};

// Opens the library of the reference, as open_reference does.
Result<std::unique_ptr<SparseReference>> open_sparse_reference(const SparseConfig& config,
                                                               const SparseWeights& weights);

}  // namespace ps
