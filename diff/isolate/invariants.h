// Checks of a candidate without any reference (parscale.md section 7): properties that a right
// model has whatever its weights are. They find faults that both sides share.
#pragma once

#include <string>
#include <vector>

#include "core/checkpoint.h"
#include "core/engine.h"
#include "core/finding.h"

namespace ps {

struct InvariantOptions {
  DType run = DType::kF32;
};

struct InvariantResult {
  std::string name;  // "causality"
  bool applies = true;
  bool holds = true;
  double worst = 0;    // of the allowed difference; <= 1 holds
  std::string detail;  // what was done, and where it broke
};

// Runs the candidate on variations of `prompt` (no cache is assumed before or kept after).
Result<std::vector<InvariantResult>> check_invariants(Engine& candidate, const ModelConfig& config,
                                                      const StepInputs& prompt,
                                                      const InvariantOptions& options);

// A broken invariant as a finding; nothing for one that holds.
std::vector<Finding> invariant_findings(const std::vector<InvariantResult>& results);

}  // namespace ps
