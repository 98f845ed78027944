#include <algorithm>
#include <cmath>
#include <map>

#include "core/late_start.h"
#include "core/points.h"
#include "diff/lint/cache.h"
#include "diff/lint/lint.h"
#include "diff/lint/trace_checks.h"
#include "diff/mask/ledger.h"
#include "diff/mask/step_mask.h"
#include "diff/shard/ledgers.h"
#include "diff/shard/rank_model.h"

namespace ps {

namespace {

Finding trace_finding(const TraceStep& step, std::string id, std::string point,
                      std::string message) {
  Finding f;
  f.id = std::move(id);
  f.fault_class = "trace";
  f.step = step.step;
  f.rank = step.rank;
  f.point = std::move(point);
  f.message = std::move(message);
  return f;
}

void add(const TraceStep& step, Finding f, const std::string& point, Report& report) {
  f.step = step.step;
  f.rank = step.rank;
  f.point = point;
  report.findings.push_back(std::move(f));
}

bool is_input(std::string_view name) {
  return name == "input_ids" || name == "attention_mask" || name == "position_ids" ||
         name == "input_mask";
}

// NaN and infinities are worth a word; the scores before a mask may not hold them either.
void note_nonfinite(const TraceStep& step, const std::string& name, const TensorView& view,
                    Report& report) {
  std::int64_t nan = 0, inf = 0, first = -1;
  for (std::int64_t i = 0; i < view.count(); ++i) {
    const double x = value_at(view, i);
    if (std::isfinite(x)) continue;
    (std::isnan(x) ? nan : inf) += 1;
    if (first < 0) first = i;
  }
  if (first < 0) return;
  Finding f = trace_finding(step, "nonfinite", name,
                            std::to_string(nan) + " NaN and " + std::to_string(inf) +
                                " infinite values of " + std::to_string(view.count()));
  f.severity = Severity::kWarning;  // what it means is diagnose's to say
  f.where = "first at element " + std::to_string(first) + " of " + to_string(view.shape);
  report.findings.push_back(std::move(f));
}

// Two faults give every point [., tokens, ..] another number of tokens.
Finding shape_finding(const TraceStep& step, const std::string& name, const TensorView& view,
                      const std::string& explanation, const ModelConfig& config,
                      const StepSizes& sizes) {
  Finding f = trace_finding(step, "shape", name, explanation);
  if (view.shape.size() != 3) return f;
  const std::int64_t prefix = config.declared_prefix_tokens;
  if (prefix > 0 && view.shape[1] == sizes.length + prefix) {
    f.id = "replica-prefix-rows-not-stripped";
    f.fault_class = "replica";
    f.message += "; too long by the prefix, whose rows were never cut off";
  } else if (name == "model.embed_tokens" && view.shape[1] < sizes.length) {
    f.id = "runtime-input-truncated";
    f.fault_class = "runtime";
    f.message += "; the input was cut before the model saw it";
  }
  return f;
}

// A step's cache, where it has the axes of `shape` but for its slots.
const TensorView* cache_of(const TraceStep& step, const std::string& name, const Shape& shape) {
  const TensorView* view = step.tensors->find(name);
  const bool alike = view != nullptr && view->count() > 0 && view->shape.size() == 4 &&
                     shape.size() == 4 && view->shape[0] == shape[0] &&
                     view->shape[1] == shape[1] && view->shape[3] == shape[3];
  return alike ? view : nullptr;
}

// `caches`: the config that this rank's caches follow; `config`: that of all points, where they are
// whole; `before`: the rank's step right before, where it was a forward step.
void check_step(const TraceStep& step, const TraceStep* before,
                const std::optional<ModelConfig>& config, const std::optional<ModelConfig>& caches,
                std::int64_t past, const std::optional<StepInputs>& inputs, Report& report) {
  for (const auto& entry : step.tensors->entries()) {
    if (is_input(entry.name) || step.op == StepOp::kGenerate) continue;
    note_nonfinite(step, entry.name, entry.view, report);
    if (entry.name.starts_with("grad/")) continue;
    // A cache may stand under another program's name, and alone in its file.
    if (const auto cache = cache_name(entry.name); cache && entry.view.shape.size() > 2) {
      if (!caches || step.op != StepOp::kForward) continue;
      std::optional<StepSizes> sizes;
      if (inputs) sizes = StepSizes{inputs->batch, inputs->length, past};
      auto wrong = cache_shape_finding(*cache, entry.name, entry.view.shape, *caches, sizes);
      if (wrong) {
        if (sizes) {
          const TensorView* was =
              before != nullptr ? cache_of(*before, entry.name, entry.view.shape) : nullptr;
          name_cache_length(*wrong, *cache, entry.view, was, *step.tensors, *caches, *sizes);
        }
        wrong->step = step.step;
        wrong->rank = step.rank;
        report.findings.push_back(*std::move(wrong));
      }
      continue;
    }
    const std::optional<PointRef> point = find_point(canonical_point(entry.name));
    if (!point) {
      Finding f =
          trace_finding(step, "unmatched-point", entry.name,
                        "not a point that parscope knows; it is carried along, not compared");
      f.severity = Severity::kInfo;
      report.findings.push_back(std::move(f));
      continue;
    }
    if (entry.name.starts_with("model:mask") && entry.view.dtype != DType::kBool) {
      Finding f =
          trace_finding(step, "MK028", entry.name, "a mask point is boolean, true = may attend");
      f.fault_class = "mask";
      f.evidence = {{"expected", "\"BOOL\""},
                    {"found", json_string(safetensors_name(entry.view.dtype))}};
      report.findings.push_back(std::move(f));
      continue;
    }
    if (!config || !inputs || step.op != StepOp::kForward) continue;
    if (!applies(*point, *config)) {
      Finding f = trace_finding(step, "replica-wrong-flag", entry.name,
                                "this model has no such op, yet the trace has its value");
      f.severity = Severity::kWarning;
      report.findings.push_back(std::move(f));
      continue;
    }
    const StepSizes sizes{inputs->batch, inputs->length, past};
    if (entry.name == "model:mask") {
      if (auto f = mask_finding(entry.view, *inputs, *config, past)) {
        add(step, *std::move(f), entry.name, report);
      }
    }
    const std::string wrong = explain_shape(*point, *config, sizes, entry.view.shape);
    if (wrong.empty()) continue;
    report.findings.push_back(shape_finding(step, entry.name, entry.view, wrong, *config, sizes));
  }
}

// False for a file that is no trace at all, such as a checkpoint.
bool has_known_names(const Trace& trace) {
  for (const TraceStep& step : trace.steps()) {
    if (step.op != StepOp::kForward || step.tensors->entries().empty()) return true;
    for (const auto& entry : step.tensors->entries()) {
      if (is_input(entry.name) || entry.name.starts_with("grad/") || cache_name(entry.name) ||
          find_point(canonical_point(entry.name))) {
        return true;
      }
    }
  }
  return false;
}

}  // namespace

Report lint_trace(const Trace& trace, const std::optional<ModelConfig>& config) {
  Report report;
  if (!has_known_names(trace)) {
    Finding f;
    f.id = "no-known-point";
    f.fault_class = "trace";
    f.severity = Severity::kWarning;
    f.message = "not one tensor has the name of a point, so nothing was checked";
    f.fix = "of a checkpoint, give the folder with its config.json";
    report.findings.push_back(std::move(f));
  }
  const std::int64_t tp = trace.manifest().tensor_parallel;
  std::optional<ModelConfig> on_a_rank = config;
  if (config && tp > 1) {
    const bool legal = rejections(head_sizes(*config), tp).empty();
    on_a_rank = legal ? std::optional(rank_config(*config, rank_share(*config, tp))) : std::nullopt;
  }
  std::map<std::int64_t, std::int64_t> past;  // by rank
  std::map<std::int64_t, const TraceStep*> last;
  for (const TraceStep& step : trace.steps()) {
    const TraceStep* const step_before = last[step.rank];
    if (step.op != StepOp::kGenerate) last[step.rank] = nullptr;
    if (step.op != StepOp::kForward) {
      check_step(step, nullptr, config, config, 0, std::nullopt, report);
      continue;
    }
    last[step.rank] = &step;
    const bool begins = !past.contains(step.rank);
    std::int64_t& before = past[step.rank];
    // A trace may begin in the middle of a run (on_a_rank: its heads are those of its own caches).
    if (begins && on_a_rank) before = past_said_by(step, *on_a_rank, step.step == 0).value_or(0);
    std::optional<StepInputs> inputs;
    if (step.tensors->find("input_ids") != nullptr) {
      Result<StepInputs> read =
          config ? mask::step_inputs_with_mask(step, *config, before) : step_inputs(step, before);
      if (read.ok()) {
        inputs = std::move(read).value();
      } else {
        report.findings.push_back(trace_finding(step, "inputs", "input_ids", read.error().line()));
      }
    }
    // Ranks may hold points sharded or gathered, but a cache is always a rank's own.
    const bool whole = trace.manifest().tensor_parallel <= 1;
    check_step(step, step_before, whole ? config : std::nullopt, on_a_rank, before, inputs, report);
    if (config && inputs) {
      if (auto f = position_finding(*inputs, *config, before)) {
        add(step, *std::move(f), "position_ids", report);
      }
    }
    if (inputs) before += inputs->length;
  }
  if (const Result<TraceExtras> extras = trace_extras(trace); extras.ok()) {
    if (!extras->ended.empty()) {
      Finding f = trace_finding({}, "capture-ended-early", "",
                                extras->ended +
                                    " ended the run: what it had not computed by then "
                                    "is missing");
      f.severity = Severity::kWarning;
      report.findings.push_back(std::move(f));
    }
    for (Finding& f : mask::backend_findings(extras->backends)) {
      report.findings.push_back(std::move(f));
    }
  } else {
    report.findings.push_back(trace_finding({}, "manifest", "", extras.error().line()));
  }
  if (config) {
    for (Finding& f : gradient_findings(trace, *config)) report.findings.push_back(std::move(f));
  }
  for (const TraceStep& step : trace.steps()) {
    for (Finding& f : cache_differences(*step.tensors, config ? &*config : nullptr)) {
      f.step = step.step;
      f.rank = step.rank;
      report.findings.push_back(std::move(f));
    }
  }
  if (on_a_rank) {
    for (Finding& f : cache_value_findings(trace, *on_a_rank)) {
      report.findings.push_back(std::move(f));
    }
  }
  report.findings = one_for_all_layers(std::move(report.findings));
  judge_by_findings(report);
  return report;
}

Result<Report> lint_trace(const std::filesystem::path& path,
                          const std::optional<std::filesystem::path>& model) {
  PS_TRY(const Trace trace, Trace::open(path));
  std::vector<Finding> first;
  std::optional<ModelConfig> config;
  if (model) {
    PS_TRY(config, load_config(*model));
  } else if (!trace.manifest().model_json.empty()) {
    PS_TRY(ParsedConfig parsed, parse_config(trace.manifest().model_json, "trace.json/model"));
    bool usable = true;
    for (const ConfigIssue& issue : parsed.issues) {
      first.push_back(config_finding(issue, "trace.json/model"));
      usable = usable && !issue.error;
    }
    if (usable) config = std::move(parsed.config);
  }
  Report report = lint_trace(trace, config);
  report.findings.insert(report.findings.begin(), first.begin(), first.end());
  PS_TRY(const std::vector<StepLedger> ledgers, read_ledgers(path));
  for (Finding& f : ledger_findings(ledgers)) report.findings.push_back(std::move(f));
  report.inputs.emplace_back("trace", json_string(path.string()));
  judge_by_findings(report);
  return report;
}

}  // namespace ps
