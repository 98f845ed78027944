// What runs a model: the candidate (model/) and the reference (reference/) both are an Engine, and
// neither knows the other. An engine reads inputs step by step, keeps its own cache, and hands
// every point that the Tap wants to it, in the order in which it computes them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/checkpoint.h"
#include "core/config.h"
#include "core/fault.h"
#include "core/result.h"
#include "core/tensor.h"

namespace ps {

class Tap {
 public:
  virtual ~Tap() = default;
  virtual bool wants(std::string_view point) = 0;
  // `value` lives until the call returns; it is what the engine computed, not a recomputation.
  virtual void take(std::string_view point, const TensorView& value) = 0;
};

class NoTap final : public Tap {
 public:
  bool wants(std::string_view) override { return false; }
  void take(std::string_view, const TensorView&) override {}
};

struct StepInputs {
  std::int64_t batch = 0;
  std::int64_t length = 0;                                  // S
  std::vector<std::int64_t> input_ids;                      // [batch, length]
  std::optional<std::vector<std::int64_t>> attention_mask;  // [batch, past + length], 1 = real
  std::optional<std::vector<std::int64_t>> position_ids;    // [batch, length]
  // [batch, 1 or heads, length, prefix + past + length], 1 = may attend: in place of the causal
  // rule, padding and windows. Not for models with cross-KV layers.
  std::optional<std::vector<std::int64_t>> visible{};
};

// What a query row that sees no key gives (spec parscale.md 3.5, masks.md 4).
enum class EmptyRows : std::uint8_t {
  kZeros,    // attention output 0
  kUniform,  // the mean over all columns, future included: upstream on a CPU
  kNan,      // softmax over -inf
  kOpened,   // such rows see every real column; judged before the prefix is added (CUDA + sdpa)
};

struct EngineOptions {
  DType dtype = DType::kF32;
  EmptyRows empty_rows = EmptyRows::kZeros;
  int threads = 0;  // 0 = as many as the machine has
};

struct Generated {
  std::int64_t batch = 0;
  std::int64_t length = 0;              // prompt and new tokens
  std::vector<std::int64_t> sequences;  // [batch, length]
  std::vector<double> scores;           // [batch]; sum of log p / new tokens; empty for greedy
};

class Engine {
 public:
  virtual ~Engine() = default;
  virtual Result<void> forward(const StepInputs& inputs, Tap& tap) = 0;
  // Rows of every cache are taken at beam_idx[b] + p*batch; taps k_cache and v_cache.
  virtual Result<void> reorder_cache(const std::vector<std::int64_t>& beam_idx, Tap& tap) = 0;
  virtual void reset() = 0;               // forget the cache
  virtual std::int64_t past() const = 0;  // tokens in the cache, without the prefix
  // A fresh run: greedy for beams = 1. No end token, no length penalty.
  virtual Result<Generated> generate(const StepInputs& prompt, std::int64_t beams,
                                     std::int64_t new_tokens) = 0;
};

// What one op of the reference reads and writes. A name "past:POINT" is POINT of the step before.
struct OpInfo {
  std::string point;                 // what it writes
  std::string kind;                  // points.def's op
  std::vector<std::string> inputs;   // points it reads
  std::vector<std::string> weights;  // checkpoint tensors it reads
};

using PointLookup = std::function<std::optional<TensorView>(std::string_view point)>;

enum class Loss : std::uint8_t {
  kNextToken,    // mean cross entropy of real next tokens
  kSumOfLogits,  // sum of all logits: simple to differentiate by hand
};

// What a correct candidate may have rounded, and how sure a bound must be.
struct Rounding {
  DType run = DType::kF32;       // the candidate's own type
  DType captured = DType::kF32;  // the type in which the compared value was stored
  double lambda = 8.0;           // sums of n terms: lambda sqrt(n) u, false with 2 exp(-lambda^2/2)
};

// An op (or a chain of ops) of the reference, run from values that somebody else computed.
struct Replayed {
  Tensor value;                    // float64
  Tensor bound;                    // float64, the same shape: the error that rounding explains
  std::vector<std::string> basis;  // the given points that it started from
  std::int64_t chain = 0;          // ops between: 1 = all its inputs were given
  std::string law;  // not empty: the candidate's values obey an order of rounding and break it;
                    // value and bound are then that order's
};

// One step of the reference in float64, op by op: its own run, and replays.
class ReferenceStep {
 public:
  virtual ~ReferenceStep() = default;
  virtual const std::vector<OpInfo>& ops() const = 0;
  // From the points that `lookup` has; inputs that it lacks are computed from theirs, and so on.
  virtual Result<Replayed> replay(std::string_view point, const PointLookup& lookup,
                                  const Rounding& rounding) = 0;
  // Each fault that touches an op between the given points and `point`, done wrong in turn: what it
  // makes of `point`. Solvers look at the candidate's own value, which `lookup` gives.
  virtual Result<void> suspects(std::string_view point, const PointLookup& lookup,
                                const Rounding& rounding, const SuspectOptions& options,
                                const SuspectCall& call) = 0;
  // The value in the reference's own run. Each point can be asked for once; what nobody needs any
  // more is forgotten, so that points asked for in the order of ops() never pile up.
  virtual Result<Tensor> own(std::string_view point) = 0;
  // Runs the rest of the step, so that the next one finds its caches.
  virtual Result<void> finish() = 0;
};

// The truth: an Engine whose ops can also be run alone, from inputs that somebody else computed.
class Reference : public Engine {
 public:
  // The ops of a step, in order of computation.
  virtual Result<std::vector<OpInfo>> ops(const StepInputs& inputs, std::int64_t past) = 0;
  // Runs the op that writes `point` on the given values of its inputs (any dtype; converted to the
  // reference's own). Missing inputs are an Error that names them.
  virtual Result<Tensor> replay(const StepInputs& inputs, std::int64_t past, std::string_view point,
                                const PointLookup& lookup) = 0;
  // The next forward step, op by op. One at a time; its caches become the reference's own.
  virtual Result<std::unique_ptr<ReferenceStep>> step(const StepInputs& inputs) = 0;
  // The faults that it can replay; `applies`: those that this model could have.
  virtual std::vector<FaultInfo> faults(bool only_applicable) const = 0;
  // A fresh forward and backward pass; taps grad/NAME for every parameter that a gradient reached.
  virtual Result<void> gradients(const StepInputs& inputs, Loss loss, Tap& tap) = 0;
};

// RoPE tables from elsewhere, used instead of the reference's own (a golden case may pin them).
struct PinnedRope {
  Tensor cos, sin;  // [positions, head_dim], indexed by position id
};

struct ReferenceOptions : EngineOptions {
  std::optional<PinnedRope> pinned_rope;
  // The type that the candidate holds its weights in; weights are rounded to it before they are
  // widened, since that loss is no fault of any op.
  std::optional<DType> weights_through;
  // Tensor-parallel ranks of the candidate: its row-parallel sums are added up from as many rounded
  // parts, which its bounds allow for.
  std::int64_t candidate_ranks = 1;
};

// Opens libparscope_reference.so on first use, next to the program or at PARSCOPE_REFERENCE, with
// its symbols kept to itself: no other BLAS in the program can serve it, nor it another.
Result<std::unique_ptr<Reference>> open_reference(const Model& model,
                                                  const ReferenceOptions& options);

}  // namespace ps
