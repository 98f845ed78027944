// Gradients of a trace (grad/NAME) against the reference's own, at the trace's inputs. What
// rounding explains comes from the reference's pass in the trace's own type. A difference gets its
// cause: the flow was cut at an op, parameters were frozen, everything is a multiple, keys that
// nobody selected were reached; else it is placed at the last op of the forward pass that has it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/config.h"
#include "core/gradients.h"
#include "core/trace.h"
#include "diff/report/report.h"

namespace ps {

struct GradientOptions {
  std::optional<GradientLoss> loss;  // absent: grad/lm_head says it, else the one that fits best
  std::vector<std::string> frozen;   // wildcards over parameters that have no gradient on purpose
  int most_cuts = 64;                // replays of a cut flow
};

bool has_gradients(const Trace& trace);

// Adds rows, findings and the verdict to a report of the same trace.
Result<void> judge_gradients(const Trace& trace, const ModelConfig& config,
                             GradientReference& reference, const GradientOptions& options,
                             Report& report);

// ---- its parts --------------------------------------------------------------------------------

// What one parameter or point came to.
struct JudgedGradient {
  std::string name;  // without grad/
  std::string dtype;
  Shape shape;
  enum class State : std::uint8_t { kOk, kWrong, kMissing, kZero, kShape } state = State::kOk;
  bool parameter = true;
  double ratio = 0, max_abs = 0, rel_l2 = 0, cosine = 1;
  double factor = 1;    // of the best multiple of the reference's
  double residual = 0;  // what is left of it, relative
  std::int64_t first_wrong = -1;
  std::optional<TensorView> value;
};

using GradientMap = std::map<std::string, Gradient>;

// Statuses of what the trace has, and of the parameters that the reference has a gradient of.
std::vector<JudgedGradient> compare_gradients(const TraceStep& step, const ModelConfig& config,
                                              const GradientMap& truth, double factor);

// What a cause search needs to run the reference again.
struct GradientScene {
  const TraceStep& step;
  const ModelConfig& config;
  const StepInputs& inputs;
  GradientReference& reference;
  GradientRequest request;  // as the truth was asked
  const GradientMap& truth;
  const GradientOptions& options;
};
std::vector<Finding> gradient_causes(const GradientScene& scene,
                                     const std::vector<JudgedGradient>& judged);

}  // namespace ps
