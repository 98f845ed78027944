#include "core/json.h"
#include "diff/lint/lint.h"
#include "diff/lint/weight_shapes.h"
#include "diff/lint/weight_values.h"

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
      f.id = issue.tensor.find(".cross_replica_") == std::string::npos ? "weights-unexpected"
                                                                       : "replica-wrong-flag";
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
  f.fault_class = f.id == "replica-wrong-flag" ? "replica" : "weights";
  f.severity = issue.error ? Severity::kError : Severity::kWarning;
  f.point = issue.tensor;
  f.message = issue.message;
  if (!issue.expected.empty()) f.evidence.emplace_back("expected", json_string(issue.expected));
  if (!issue.found.empty()) f.evidence.emplace_back("found", json_string(issue.found));
  return f;
}

// The config's own, for weights that are freshly made; Hugging Face's usual one where it is silent.
double initializer_range(const ModelConfig& config) {
  const Result<Json> json = parse_json(config.json, "config.json");
  const Json* range = json.ok() ? json->find("initializer_range") : nullptr;
  return range != nullptr && range->number > 0 ? range->number : 0.02;
}

}  // namespace

std::vector<Finding> checkpoint_findings(const Checkpoint& checkpoint, const ModelConfig& config) {
  std::vector<Finding> out = weight_shape_findings(checkpoint, config);
  for (const CheckpointIssue& issue : checkpoint.compare(config)) {
    out.push_back(checkpoint_finding(issue));
    Finding& f = out.back();
    const TensorView* found = checkpoint.peek(issue.tensor);
    if (f.id == "weights-shape" && found != nullptr) {
      f.fix = prefix_fields(issue.tensor, found->shape, config);
    }
  }
  for (Finding& f : weight_value_findings(checkpoint, initializer_range(config))) {
    out.push_back(std::move(f));
  }
  return out;
}

void judge_by_findings(Report& report) {
  if (exit_code(report) == 1) report.verdict = Verdict::kDiverged;
}

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
    judge_by_findings(report);
    return report;
  }
  const std::shared_ptr<Checkpoint>& checkpoint = opened.value();
  std::vector<Finding> found =
      usable ? checkpoint_findings(*checkpoint, parsed.config)
             : weight_value_findings(*checkpoint, initializer_range(parsed.config));
  for (Finding& f : found) report.findings.push_back(std::move(f));
  judge_by_findings(report);
  return report;
}

}  // namespace ps
