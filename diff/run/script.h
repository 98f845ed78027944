// A run as a script: which steps an engine is given, one after the other. The tokens of decode
// steps come from the logits of the step before, so the script is asked step by step; two engines
// run in lockstep are given the same script and so the same tokens.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "core/engine.h"
#include "core/trace.h"

namespace ps {

struct RunPlan {
  StepInputs prompt;
  std::int64_t decode_steps = 0;
  std::int64_t chunk = 0;  // tokens a prefill call; 0 = all at once
  // The mask of a step, StepInputs::visible; empty: the model's own rules.
  std::function<std::vector<std::int64_t>(std::int64_t rows, std::int64_t length,
                                          std::int64_t past)>
      visible{};
  std::int64_t visible_heads = 1;  // or all heads of the model, where they differ
  std::int64_t beams = 1;          // more than 1: rows are repeated, and caches reordered each step
};

struct ScriptStep {
  TraceStep step;     // number, op, beam_idx
  StepInputs inputs;  // of a forward step
};

class Script {
 public:
  explicit Script(RunPlan plan);

  // The next step, or nothing at the end. `logits` are lm_head's [B,S,V] of the last forward step.
  std::optional<ScriptStep> next(const std::optional<TensorView>& logits);
  std::int64_t total_steps() const;
  std::int64_t past() const { return past_; }  // before the step last handed out

 private:
  ScriptStep forward_step(StepInputs inputs, bool greedy);
  StepInputs prompt_slice(std::int64_t begin, std::int64_t length) const;
  StepInputs decode_inputs(const std::vector<std::int64_t>& tokens);
  void choose(const TensorView& logits);  // fills tokens_ and beam_idx_

  RunPlan plan_;
  std::int64_t step_ = 0;
  std::int64_t past_ = 0;
  std::int64_t filled_ = 0;  // prompt tokens handed out
  std::int64_t decoded_ = 0;
  std::int64_t last_length_ = 0;
  bool reordered_ = false;               // a reorder step was handed out for this decode step
  std::vector<std::int64_t> mask_;       // [rows, past]; empty when the prompt has none
  std::vector<std::int64_t> positions_;  // [rows] of the last token; empty when not given
  std::vector<double> scores_;           // [rows]
  std::vector<std::int64_t> tokens_, beam_idx_;
};

}  // namespace ps
