// The main job: candidate and reference side by side. The candidate runs a step; each of its points
// is judged as soon as the op before it has been, and forgotten when no later op reads it.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/engine.h"
#include "core/result.h"
#include "diff/isolate/judge.h"
#include "diff/isolate/sample.h"
#include "diff/report/report.h"
#include "diff/run/script.h"

namespace ps {

class CheckProgress;
class PowerMeter;

struct LockstepOptions {
  DType run = DType::kF32;  // the candidate's type
  double bound_factor = 1.0;
  double false_alarm = 1e-6;  // chance of one in the whole run
  bool stop_at_first = false;
  std::function<void(std::int64_t step, std::int64_t total, std::int64_t op, std::int64_t ops)>
      progress;
  std::function<void(std::int64_t step, const JudgedPoint&)> divergence;
  bool name_causes = true;  // false: every finding is unnamed
  // Replays every applicable fault on a run that is right: what it could not have shown.
  bool measure_power = true;
  PowerMeter* power = nullptr;  // goes on with this one, over several runs; null: one of its own
  bool count_votes = false;     // Report::replicas, of models that have some
  // Layers that are judged; others are left out, listed, and cost power. Without the reference's
  // own run, so that what is healed is not told from what is propagated.
  Sample sample;
  CheckProgress* progress_file = nullptr;  // what was judged is kept there, and taken from there
};

// Points, first divergence and an unnamed finding for it. Inputs and timing are the caller's.
Result<Report> lockstep(Engine& candidate, Reference& reference, const ModelConfig& config,
                        const RunPlan& plan, const LockstepOptions& options);

// lambda of core/engine.h's Rounding for `cells` comparisons and this chance of one false alarm.
double lambda_for(double cells, double false_alarm);

// "unnamed" at the op that went wrong first: what is known without a cause.
Finding unnamed_finding(const FirstDivergence& first, const PointRow& row);
// Where the first divergence has no finding of its own: one without a name, in front.
void add_unnamed(Report& report);
// The class that faults.json gives to the op that writes a point; "unknown" for other names.
std::string_view fault_class_of(std::string_view point);

}  // namespace ps
