#include "diff/diagnose/benign.h"

#include <algorithm>
#include <array>

#include "core/points.h"

namespace ps {

namespace {

bool is_any(std::string_view what, std::initializer_list<std::string_view> list) {
  return std::find(list.begin(), list.end(), what) != list.end();
}

std::string_view op_of(const std::string& point) {
  const std::optional<PointRef> ref = find_point(canonical_point(point));
  return ref ? ref->spec->op : std::string_view();
}

bool is_local(const PointRow& row) {
  return row.status == PointStatus::kDiverged || row.status == PointStatus::kShape ||
         row.status == PointStatus::kNonfinite;
}

// All locally wrong points are made by these ops.
bool only_at(const Report& report, std::initializer_list<std::string_view> ops) {
  return std::all_of(report.points.begin(), report.points.end(), [&](const PointRow& row) {
    return !is_local(row) || is_any(op_of(row.point), ops);
  });
}

bool all_named(const Report& report, std::initializer_list<std::string_view> ids) {
  bool any = false;
  for (const Finding& f : report.findings) {
    if (f.severity != Severity::kError) continue;
    if (!is_any(f.id, ids)) return false;
    any = true;
  }
  return any;
}

bool any_named(const Report& report, std::string_view id) {
  return std::any_of(report.findings.begin(), report.findings.end(),
                     [&](const Finding& f) { return f.id == id; });
}

std::string reason(const Report& report, const ModelConfig& config, const Outcome& outcome) {
  if (any_named(report, "rope-low-precision-table")) return "";
  // A large difference without a consequence cancels; a small one may only be hidden by rounding.
  double largest = 0;
  for (const PointRow& row : report.points) {
    if (is_local(row)) largest = std::max(largest, row.ratio);
  }
  if ((outcome.exact || largest > 16) && config.prefix_tokens == 0 &&
      only_at(report, {"rope_freq", "rope_table", "rope", "cache_append"}) &&
      all_named(report, {"unnamed", "rope-decode-off-by-one", "rope-ragged-batch-scalar-past"})) {
    return "queries and keys are turned by one and the same angle more: their products are equal, "
           "as long as no key in the cache is unrotated";
  }
  if (config.prefix_tokens == 0 &&
      all_named(report, {"rope-permute-skipped", "rope-interleaved-vs-half",
                         "rope-output-layout-not-restored"})) {
    return "the rows of W_q and W_k are permuted and the rotation pairs channels to match: their "
           "products are equal";
  }
  // In a coarse type the logits may hide a small effect; the gate's own change does not lie.
  const bool gate_too =
      std::any_of(report.points.begin(), report.points.end(), [](const PointRow& r) {
        return is_local(r) && r.point.starts_with("model.aggregate_layer.");
      });
  if ((outcome.exact || gate_too) &&
      (any_named(report, "replica-prefix-order") || any_named(report, "replica-input-order"))) {
    return "the replicas have changed places together with their prefixes and the gate's columns";
  }
  if (outcome.exact && all_named(report, {"weights-qkv-bias-dropped", "attention-scale-wrong"}) &&
      only_at(report, {"linear", "scores"})) {
    return "a softmax does not see what changed here: the same was added to all scores of a row, "
           "or a "
           "row has one key";
  }
  // Equal replicas are equal to the last bit in every type; only the weights' sum counts then.
  if ((outcome.exact || !any_named(report, "aggregation-weights-not-normalised")) &&
      !outcome.replicas_differ && config.replicas > 1 &&
      only_at(report, {"aggregate_input", "aggregate_weights", "linear_of_silu"})) {
    return "the gate's weights differ, and the replicas that it weighs are equal";
  }
  return "";
}

}  // namespace

void recognise_benign(Report& report, const ModelConfig& config, const Outcome& outcome) {
  if (report.verdict != Verdict::kDiverged || !outcome.captured || !outcome.equal) return;
  const std::string why = reason(report, config, outcome);
  if (why.empty()) return;
  report.verdict = Verdict::kEquivalent;
  for (PointRow& row : report.points) {
    if (is_local(row) || row.status == PointStatus::kPropagated) row.status = PointStatus::kIgnored;
  }
  for (Finding& f : report.findings) {
    if (f.severity != Severity::kError) continue;
    f.severity = Severity::kInfo;
    f.message = "benign: " + why + ". Seen as: " + f.message;
    f.fix.clear();
  }
  report.first_divergence.reset();
}

}  // namespace ps
