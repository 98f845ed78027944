// An engine that passes everything on to another. Tests override what they spoil on the way.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "core/engine.h"

namespace ps {

class EngineAround : public Engine {
 public:
  explicit EngineAround(std::unique_ptr<Engine> inner) : inner_(std::move(inner)) {}
  Result<void> forward(const StepInputs& inputs, Tap& tap) override {
    return inner_->forward(inputs, tap);
  }
  Result<void> reorder_cache(const std::vector<std::int64_t>& beam_idx, Tap& tap) override {
    return inner_->reorder_cache(beam_idx, tap);
  }
  void reset() override { inner_->reset(); }
  std::int64_t past() const override { return inner_->past(); }
  Result<Generated> generate(const StepInputs& prompt, std::int64_t beams,
                             std::int64_t new_tokens) override {
    return inner_->generate(prompt, beams, new_tokens);
  }

 protected:
  std::unique_ptr<Engine> inner_;
};

}  // namespace ps
