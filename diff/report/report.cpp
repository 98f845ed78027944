#include "diff/report/report.h"

#include <algorithm>

namespace ps {

std::string_view to_string(Verdict verdict) {
  switch (verdict) {
    case Verdict::kEquivalent:
      return "equivalent";
    case Verdict::kDiverged:
      return "diverged";
    case Verdict::kInvalid:
      return "invalid";
  }
  return "invalid";
}

std::string_view to_string(PointStatus status) {
  switch (status) {
    case PointStatus::kOk:
      return "ok";
    case PointStatus::kDiverged:
      return "diverged";
    case PointStatus::kPropagated:
      return "propagated";
    case PointStatus::kHealed:
      return "healed";
    case PointStatus::kNonfinite:
      return "nonfinite";
    case PointStatus::kShape:
      return "shape";
    case PointStatus::kMissing:
      return "missing";
    case PointStatus::kUnmatched:
      return "unmatched";
    case PointStatus::kIgnored:
      return "ignored";
  }
  return "ignored";
}

int exit_code(const Report& report) {
  if (report.verdict == Verdict::kInvalid) return 2;
  const bool error = std::any_of(report.findings.begin(), report.findings.end(),
                                 [](const Finding& f) { return f.severity == Severity::kError; });
  if (error) return 1;
  if (report.baseline) return report.baseline->new_points.empty() ? 0 : 1;
  return report.verdict == Verdict::kDiverged ? 1 : 0;
}

}  // namespace ps
