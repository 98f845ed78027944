#include "viewer/app/spots.h"

#include <algorithm>
#include <cmath>

#include "diff/compare/compare.h"
#include "diff/report/strip.h"

namespace ps::viewer {

std::vector<Spot> spots_of(const Report& report) {
  std::vector<Spot> spots;
  for (const PointRow& row : report.points) {
    const bool named =
        std::any_of(report.findings.begin(), report.findings.end(), [&](const Finding& f) {
          return f.severity == Severity::kError && f.point == row.point && f.step == row.step &&
                 f.rank == row.rank;
        });
    const bool missing = row.status == PointStatus::kMissing;
    if (is_bad(row) || named || missing) spots.push_back({row.step, row.rank, row.point, ""});
  }
  // The place that the report names, where it names one.
  for (Spot& spot : spots) {
    for (const Finding& f : report.findings) {
      if (spot.where.empty() && f.point == spot.point && f.step == spot.step &&
          f.rank == spot.rank) {
        spot.where = f.where;
      }
    }
    if (report.first_divergence && report.first_divergence->point == spot.point &&
        report.first_divergence->step == spot.step && report.first_divergence->rank == spot.rank) {
      spot.where = report.first_divergence->where;
    }
  }
  return spots;
}

std::int64_t worst_cell(const TensorView& actual, const TensorView& expected) {
  if (actual.shape != expected.shape) return -1;
  const Comparison c = compare(actual, expected, {});
  return c.first_class_mismatch >= 0 ? c.first_class_mismatch : c.max_abs_at;
}

std::int64_t first_wrong_cell(const TensorView& actual, const TensorView& expected,
                              std::int64_t layers) {
  if (actual.shape != expected.shape) return -1;
  CompareOptions options;
  options.bound = default_bound(actual.dtype, expected.dtype, layers);
  return compare(actual, expected, options).first_wrong();
}

}  // namespace ps::viewer
