// Inputs that no prompt gives. An op may be wrong where natural values never go: RMSNorm's epsilon
// counts only in rows of small energy. So the model is run once more on a checkpoint of our own
// making: embeddings that are scaled down to epsilon, constant, one-hot, zero, near the end of the
// type's range, and no attention or MLP output, so that every layer's ops see them undisturbed.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/checkpoint.h"
#include "core/engine.h"
#include "diff/isolate/lockstep.h"
#include "diff/report/report.h"

namespace ps {

struct OwnInputs {
  Model model;  // the same config; its tensors live as long as it does
  RunPlan plan;
  std::vector<std::string> words;  // what each token is
};
// Error where the checkpoint is too large, or of a type that cannot be written.
Result<OwnInputs> own_inputs(const Model& model, DType run);

struct Openers {
  std::function<Result<std::unique_ptr<Engine>>(const Model&)> candidate;
  std::function<Result<std::unique_ptr<Reference>>(const Model&)> reference;
};
// After a check that found nothing, or nothing with a name: the same on inputs of our own. What it
// finds becomes the report's; where the report has a divergence already, only its name.
// `candidate_config`: what the candidate is run with.
Result<void> excite(const Model& model, const ModelConfig& candidate_config, const Openers& open,
                    const LockstepOptions& options, Report& report);

}  // namespace ps
