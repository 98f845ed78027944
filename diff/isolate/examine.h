// A trace of any producer against the reference: op by op from the trace's own values, with
// whatever points it has. Needs no engine.
#pragma once

#include <functional>

#include "core/checkpoint.h"
#include "core/engine.h"
#include "core/trace.h"
#include "diff/isolate/judge.h"
#include "diff/report/report.h"

namespace ps {

struct ExamineOptions {
  double false_alarm = 1e-6;
  std::function<void(std::int64_t done, std::int64_t total)> progress;
  std::function<void(std::int64_t step, const JudgedPoint&)> divergence;
  bool name_causes = true;  // false: every finding is unnamed
  // Replays every applicable fault on a run that is right: what it could not have shown.
  bool measure_power = true;
};

// Statuses of every captured point, the first divergence, an unnamed finding for it. A trace whose
// inputs are missing or do not fit is an Error; values that no op of this model writes are
// unmatched.
Result<Report> examine(const Trace& trace, const Model& model, Reference& reference,
                       const ExamineOptions& options);

}  // namespace ps
