// Runs nets: the reference as an Engine, with its cache, and op by op from given inputs.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "core/engine.h"
#include "core/own_run.h"
#include "reference/net.h"
#include "reference/weights.h"

namespace ps::reference {

// The caches of a run: "model.layers.0.self_attn:k_cache" -> [R,K,C,D].
using Cache = std::map<std::string, at::Tensor>;

class ReferenceEngine final : public Reference, public BeginsLate {
 public:
  ReferenceEngine(const Model& model, const ReferenceOptions& options);

  Result<void> forward(const StepInputs& inputs, Tap& tap) override;
  Result<void> reorder_cache(const std::vector<std::int64_t>& beam_idx, Tap& tap) override;
  void reset() override;
  std::int64_t past() const override { return past_; }
  void begin_at(std::int64_t past) override {
    reset();
    past_ = past;
  }
  Result<Generated> generate(const StepInputs& prompt, std::int64_t beams,
                             std::int64_t new_tokens) override;

  Result<std::vector<OpInfo>> ops(const StepInputs& inputs, std::int64_t past) override;
  Result<Tensor> replay(const StepInputs& inputs, std::int64_t past, std::string_view point,
                        const PointLookup& lookup) override;
  Result<std::unique_ptr<ReferenceStep>> step(const StepInputs& inputs) override;
  std::vector<FaultInfo> faults(bool only_applicable) const override;
  Result<void> gradients(const StepInputs& inputs, Loss loss, Tap& tap) override;

 private:
  friend class StepByOps;
  StepContext context(const StepInputs& inputs, std::int64_t past, bool cache_empty) const;
  // Runs all ops in order; returns the logits. Points live until their last reader has run.
  at::Tensor run(const Net& net, Weights& weights, Tap& tap, Cache& cache) const;
  void reorder(const std::vector<std::int64_t>& beam_idx);

  ModelConfig config_;
  std::shared_ptr<const Checkpoint> checkpoint_;
  ReferenceOptions options_;
  Types types_;
  Weights weights_;
  std::optional<Weights> same_type_;  // in weights_through, for chains; made on first use
  Cache cache_;
  std::int64_t past_ = 0;
  std::int64_t batch_ = 0;
  std::vector<StepInputs> earlier_;  // of the steps that filled the cache
};

// "" when the inputs fit the model and the cache, else what is wrong.
Result<void> check_inputs(const StepInputs& inputs, const ModelConfig& config, std::int64_t past,
                          std::int64_t cached_batch);

}  // namespace ps::reference
