// The capture guard: proves that two runs can be compared at all, or says why not. A published
// "first divergence" was once retracted because the two runs had seen different tokens. It must not
// cry wolf either: what a fault of the model can look like is left to the comparison.
#pragma once

#include <functional>
#include <vector>

#include "core/finding.h"
#include "core/trace.h"
#include "diff/align/pairing.h"
#include "diff/report/report.h"

namespace ps {

// Same model; same phase, tokens, mask and positions in every step. Errors mean `invalid`.
std::vector<Finding> guard_runs(const Trace& candidate, const Trace& expected,
                                const std::vector<StepPair>& steps);

// One compared pair, for the second half of the guard.
struct JudgedPair {
  const Pair* pair = nullptr;
  PointStatus status = PointStatus::kOk;
  bool candidate_all_zero = false;
  bool expected_all_zero = false;
};
// Whether the candidate's tensor equals another one within the bound of a comparison.
using Agree = std::function<bool(const TensorView& candidate, const TensorView& expected)>;

// Captures that hold something else than their name says: all zero, another point's bits, the step
// before's, with or without the residual. Only where what was computed from the value is right, so
// that the value itself must have been: then the capture is wrong and not the run.
std::vector<Finding> guard_captures(const std::vector<std::vector<JudgedPair>>& steps,
                                    const Agree& agree);

}  // namespace ps
