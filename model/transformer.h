// The engine: weights, cache, and the loop over steps. One forward pass is a Forward (forward.h).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "model/arena.h"
#include "model/candidate.h"
#include "model/kv_cache.h"
#include "model/plant.h"
#include "model/sparse_layer.h"
#include "model/step_inputs.h"
#include "model/weights.h"

namespace ps {

class ProcessCollectives;

// Hands a value to the tap if it wants it; a strided one (four axes) is packed first.
void emit(Backend& backend, Arena& arena, Tap& tap, const std::string& point, const Array& value);

// What every step reads and none changes.
struct ModelState {
  Model model;
  EngineOptions options;
  std::unique_ptr<Backend> backend;
  Collectives* collectives = nullptr;
  ProcessCollectives* joined = nullptr;  // the same, where the devices add up by themselves
  Weights weights;
  Array inv_freq;          // f32 [head_dim / 2]
  double rope_factor = 1;  // on cosines and sines
  Array replica_inv_freq;  // f32 [cross_head_dim / 2], replica RoPE only
  std::vector<void*> owned;
  std::optional<SparseModel> sparse;  // layers with block-sparse attention
  std::optional<Plant> plant;         // the fault that is done on purpose, if any

  const ModelConfig& config() const { return model.config; }
};

enum class Logits : std::uint8_t { kAll, kLast };

class Transformer final : public Engine {
 public:
  explicit Transformer(ModelState state);
  ~Transformer() override;

  Result<void> forward(const StepInputs& inputs, Tap& tap) override;
  Result<void> reorder_cache(const std::vector<std::int64_t>& beam_idx, Tap& tap) override;
  void reset() override;
  std::int64_t past() const override { return past_; }
  Result<Generated> generate(const StepInputs& prompt, std::int64_t beams,
                             std::int64_t new_tokens) override;
  CandidateStats stats() const;

 private:
  struct Sequence;  // generate.cpp
  Result<void> step(const StepInputs& inputs, Tap& tap, Logits which);
  Result<Generated> run_generate(const StepInputs& prompt, std::int64_t beams,
                                 std::int64_t new_tokens);
  Result<std::vector<std::int64_t>> best_tokens();  // of the last position: [batch]
  Result<std::vector<float>> last_logits();         // [batch, vocab]

  ModelState state_;
  Arena arena_;
  std::unique_ptr<KvCache> cache_;
  std::unique_ptr<KvCache> query_means_;  // f32 [row, 1, token, dim]; block-sparse walks only
  Array logits_;                          // [batch, tokens or 1, vocab]; lives until the next step
  std::int64_t past_ = 0, batch_ = 0, empty_rows_ = 0;
};

}  // namespace ps
