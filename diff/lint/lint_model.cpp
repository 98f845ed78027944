#include <cmath>

#include "diff/lint/lint.h"

namespace ps {

Finding config_finding(const ConfigIssue& issue, const std::string& point) {
  Finding f;
  f.id = issue.id;
  f.fault_class = "config";
  f.severity = issue.error ? Severity::kError : Severity::kWarning;
  f.point = point;
  f.where = issue.field;
  f.message = issue.rule;
  f.evidence = {{"value", issue.value.empty() ? "null" : issue.value}};
  return f;
}

namespace {

Finding checkpoint_finding(const CheckpointIssue& issue) {
  Finding f;
  switch (issue.kind) {
    case CheckpointIssue::Kind::kMissing:
      f.id = issue.tensor == "lm_head.weight" ? "weights-lm-head-missing-or-untied"
                                              : "weights-silently-missing";
      f.fix = "a loader that skips missing names would leave this weight at random values";
      break;
    case CheckpointIssue::Kind::kUnexpected:
      f.id = "weights-unexpected";
      f.fix = "a weight that nothing reads: is the config the one of this checkpoint?";
      break;
    case CheckpointIssue::Kind::kShape:
      f.id = "weights-shape";
      break;
    case CheckpointIssue::Kind::kDType:
      f.id = "weights-dtype";
      break;
    case CheckpointIssue::Kind::kTiedDiffers:
      f.id = "weights-lm-head-wrongly-tied";
      f.fix = "set tie_word_embeddings to false, or drop lm_head.weight";
      break;
  }
  f.fault_class = "weights";
  f.severity = issue.error ? Severity::kError : Severity::kWarning;
  f.point = issue.tensor;
  f.message = issue.message;
  if (!issue.expected.empty()) f.evidence.emplace_back("expected", json_string(issue.expected));
  if (!issue.found.empty()) f.evidence.emplace_back("found", json_string(issue.found));
  return f;
}

// Values that no trained weight has: not finite, or a whole matrix of one value.
std::optional<Finding> value_finding(const std::string& name, const TensorView& view) {
  if (!is_floating(view.dtype) || view.count() == 0) return std::nullopt;
  const double first = value_at(view, 0);
  bool constant = true;
  for (std::int64_t i = 0; i < view.count(); ++i) {
    const double x = value_at(view, i);
    if (!std::isfinite(x)) {
      Finding f;
      f.id = name.ends_with(".prefix_k") || name.ends_with(".prefix_v")
                 ? "weights-prefix-uninitialised"
                 : "weights-nonfinite";
      f.fault_class = "weights";
      f.point = name;
      f.where = "element " + std::to_string(i) + " of " + to_string(view.shape);
      f.message = std::isnan(x) ? "a weight is NaN" : "a weight is infinite";
      return f;
    }
    constant = constant && x == first;
  }
  if (constant && view.shape.size() > 1 && view.count() > 1) {
    Finding f;
    f.id = "weights-constant";
    f.fault_class = "weights";
    f.severity = Severity::kWarning;
    f.point = name;
    f.message = "every element is " + std::to_string(first) + ": was this weight ever loaded?";
    return f;
  }
  return std::nullopt;
}

}  // namespace

Result<Report> lint_model(const std::filesystem::path& dir) {
  Report report;
  PS_TRY(const ParsedConfig parsed, read_config(dir));
  bool usable = true;
  for (const ConfigIssue& issue : parsed.issues) {
    usable = usable && !issue.error;
    report.findings.push_back(config_finding(issue, "config.json"));
  }
  report.inputs.emplace_back("model", json_string(dir.string()));
  const Result<std::shared_ptr<Checkpoint>> opened = Checkpoint::open(dir);
  if (!opened.ok()) {
    if (usable) return opened.error();
    // The config is wrong already: that is worth its report, with or without weights.
    Finding f;
    f.id = "weights-not-checked";
    f.fault_class = "weights";
    f.severity = Severity::kWarning;
    f.message = opened.error().line();
    report.findings.push_back(std::move(f));
    return report;
  }
  const std::shared_ptr<Checkpoint>& checkpoint = opened.value();
  if (usable) {
    for (const CheckpointIssue& issue : checkpoint->compare(parsed.config)) {
      report.findings.push_back(checkpoint_finding(issue));
    }
  }
  for (const std::string& name : checkpoint->names()) {
    if (auto f = value_finding(name, *checkpoint->peek(name))) report.findings.push_back(*f);
  }
  return report;
}

}  // namespace ps
