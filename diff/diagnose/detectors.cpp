#include "diff/diagnose/detectors.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "diff/align/weight_sums.h"
#include "diff/diagnose/known_faults.h"
#include "diff/lint/lint.h"

namespace ps {

namespace {

// What the comparison itself says better: values and names of points, and where something is wrong
// that nobody can name. It reads additive masks (MK028) too.
constexpr std::array<std::string_view, 7> kSaidBetter = {
    "nonfinite", "unmatched-point", "no-known-point", "inputs", "shape", "MK028", "unnamed"};
constexpr std::int64_t kLargeBytes = std::int64_t{1} << 28;

std::int64_t bytes_of(const Checkpoint& checkpoint) {
  std::int64_t bytes = 0;
  for (const std::string& name : checkpoint.names()) {
    bytes += static_cast<std::int64_t>(checkpoint.peek(name)->bytes.size());
  }
  return bytes;
}

// A finding without a name at the place where a detector knows one.
bool gives_name(const Finding& detected, const Finding& found) {
  return found.confidence == Confidence::kUnnamed && detected.severity == Severity::kError &&
         detected.step == found.step && detected.point == found.point &&
         find_known_fault(detected.id) != nullptr;
}

void add(Finding detected, Report& report) {
  for (Finding& found : report.findings) {
    if (found.id == detected.id) {
      found.evidence.emplace_back("detector", json_string(detected.message));
      return;
    }
    if (!gives_name(detected, found)) continue;
    detected.confidence = Confidence::kConsistent;
    detected.evidence.insert(detected.evidence.end(), found.evidence.begin(), found.evidence.end());
    found = std::move(detected);
    return;
  }
  // Every captured value was compared: what a detector doubts beside that is worth a word, and
  // fails no run.
  if (detected.severity == Severity::kError) detected.severity = Severity::kWarning;
  report.findings.push_back(std::move(detected));
}

}  // namespace

void add_detectors(const Trace& trace, const Model& model, int threads, Report& report) {
  for (Finding& f : lint_trace(trace, model.config).findings) {
    const bool skip = std::find(kSaidBetter.begin(), kSaidBetter.end(), f.id) != kSaidBetter.end();
    if (!skip) add(std::move(f), report);
  }
  if (const Result<TraceExtras> extras = trace_extras(trace); extras.ok()) {
    auto f = weights_unlike(extras->weights, model, threads);
    if (f) add(*std::move(f), report);
  }
  // The comparison took the checkpoint for the truth: what is odd about it is no error of the run.
  const std::int64_t bytes = bytes_of(*model.checkpoint);
  if (bytes > kLargeBytes) {
    report.environment.emplace_back("checkpoint_numbers",
                                    json_string("not read, " + std::to_string(bytes >> 20) +
                                                " MiB: parscope lint MODEL_DIR does"));
    return;
  }
  for (Finding& f : checkpoint_findings(*model.checkpoint, model.config)) {
    if (f.severity == Severity::kError) f.severity = Severity::kWarning;
    add(std::move(f), report);
  }
}

}  // namespace ps
