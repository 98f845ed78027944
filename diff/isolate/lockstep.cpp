#include "diff/isolate/lockstep.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "core/own_run.h"
#include "core/points.h"
#include "diff/diagnose/beams.h"
#include "diff/diagnose/benign.h"
#include "diff/diagnose/investigator.h"
#include "diff/diagnose/power.h"
#include "diff/isolate/check_progress.h"
#include "diff/isolate/replica_votes.h"
#include "diff/isolate/window.h"
#include "diff/run/phases.h"

namespace ps {

namespace {

class KeepCaches final : public Tap {
 public:
  bool wants(std::string_view point) override { return is_cache_point(point); }
  void take(std::string_view point, const TensorView& value) override {
    caches.insert_or_assign(std::string(point), Tensor::copy_of(value));
  }
  std::map<std::string, Tensor> caches;
};

// How many ops of the step's own run need not be asked for: all where a sample goes without it,
// and those that an earlier process kept.
Result<std::int64_t> begin_own_run(ReferenceStep& truth, std::int64_t step, bool sampled,
                                   std::optional<CheckProgress::KeptOwnRun>& kept) {
  auto* own = dynamic_cast<OwnRun*>(&truth);
  if (own == nullptr || (!sampled && !kept)) return std::int64_t{0};
  OwnRunState state;
  state.ops = static_cast<std::int64_t>(truth.ops().size());
  if (!sampled && step == kept->step) {
    state = std::move(kept->state);
    kept.reset();
  }
  const std::int64_t ops = state.ops;
  PS_TRY_VOID(own->take_up(std::move(state)));
  return ops;
}

// Cells that a run of this plan compares, roughly: enough for a logarithm.
double cells_of(const ModelConfig& config, const RunPlan& plan) {
  const double rows = static_cast<double>(config.replicas * plan.prompt.batch * plan.beams);
  const double tokens = static_cast<double>(plan.prompt.length + plan.decode_steps);
  const double columns = tokens + static_cast<double>(config.prefix_tokens);
  const double wide = static_cast<double>(8 * config.hidden_size + 4 * config.intermediate_size);
  const double a_layer = rows * tokens * (wide + 2.0 * static_cast<double>(config.heads) * columns);
  return a_layer * static_cast<double>(config.layers + 1) +
         rows * tokens * static_cast<double>(config.vocab_size);
}

}  // namespace

double lambda_for(double cells, double false_alarm) {
  return std::sqrt(2.0 * std::log(2.0 * std::max(1.0, cells) / false_alarm));
}

std::string_view fault_class_of(std::string_view point) {
  const std::optional<PointRef> ref = find_point(canonical_point(point));
  if (!ref) return "unknown";
  const std::string_view op = ref->spec->op;
  if (op.starts_with("rope") || op.starts_with("replica_rope")) return "rope";
  if (op.starts_with("mask")) return "mask";
  if (op == "rms_norm" || op == "residual") return "norm";
  if (op == "cache_append") return "cache";
  if (op.starts_with("block_")) return "sparse";
  if (op == "replicate") return "replica";
  if (op.starts_with("aggregate") || ref->spec->name.starts_with("model.aggregate")) {
    return "aggregation";
  }
  if (op == "scores" || op == "probs" || op == "context" || op.starts_with("cross_")) {
    return "attention";
  }
  return "weights";
}

Finding unnamed_finding(const FirstDivergence& first, const PointRow& row) {
  Finding f;
  f.id = "unnamed";
  f.confidence = Confidence::kUnnamed;
  f.step = first.step;
  f.rank = first.rank;
  f.point = first.point;
  f.where = first.where;
  const std::optional<PointRef> ref = find_point(canonical_point(first.point));
  f.fault_class = fault_class_of(first.point);
  char numbers[160];
  if (row.status == PointStatus::kShape) {
    f.message = "this op gives a value of another shape";
  } else {
    std::snprintf(
        numbers, sizeof numbers,
        ": its error is %.3g times what rounding explains (max |error| %.3g, relative %.3g)",
        row.ratio, row.max_abs, row.rel_l2);
    f.message = row.status == PointStatus::kNonfinite
                    ? "this op gives NaN or an infinity from inputs that should not"
                    : std::string("this op is wrong on its own inputs") + numbers;
  }
  std::snprintf(numbers, sizeof numbers, "%.6g", row.ratio);
  f.evidence = {{"ratio", std::isfinite(row.ratio) ? numbers : "null"},
                {"op", json_string(ref ? ref->spec->op : "unknown")}};
  return f;
}

void add_unnamed(Report& report) {
  if (!report.first_divergence) return;
  const FirstDivergence& first = *report.first_divergence;
  for (const Finding& f : report.findings) {
    if (f.severity == Severity::kError && f.step == first.step && f.point == first.point) return;
  }
  for (const PointRow& row : report.points) {
    if (row.step != first.step || row.point != first.point) continue;
    report.findings.insert(report.findings.begin(), unnamed_finding(first, row));
    return;
  }
}

Result<Report> lockstep(Engine& candidate, Reference& reference, const ModelConfig& config,
                        const RunPlan& plan, const LockstepOptions& options) {
  Report report;
  Script script(plan);
  candidate.reset();
  reference.reset();
  JudgeOptions how;
  how.run = options.run;
  how.bound_factor = options.bound_factor;
  how.rows = options.sample.rows();
  how.lambda = lambda_for(cells_of(config, plan), options.false_alarm);
  std::map<std::string, Tensor> caches;
  Investigator investigator(config, {});
  PowerMeter of_this_run(reference.faults(/*only_applicable=*/true), config);
  PowerMeter& power = options.power != nullptr ? *options.power : of_this_run;
  Outcome outcome{false, true, unit_roundoff(options.run) < 1e-6, false};
  std::unique_ptr<StepJudge> earlier;  // the step before's
  bool spread = false, measured = options.measure_power;
  Tensor logits;
  std::int64_t empty_rows = 0;
  const std::int64_t total = script.total_steps();
  const bool sampled = !options.sample.all(), votes = options.count_votes && config.replicas > 1;
  if (sampled) report.not_judged = {options.sample.text(), options.sample.left_out(), {}, {}};
  // The reference's own run of an earlier process, where it got so far that it saves time.
  std::optional<CheckProgress::KeptOwnRun> kept;
  if (options.progress_file != nullptr) kept = options.progress_file->kept_own_run();
  while (true) {
    const auto view = logits.shape().empty() ? std::nullopt : std::optional(logits.view());
    const std::optional<ScriptStep> next = script.next(view);
    if (!next) break;
    const std::int64_t number = next->step.step;
    if (next->step.op == StepOp::kReorderCache) {
      if (moves_rows(next->step.beam_idx)) power.reordered();
      KeepCaches after;
      NoTap none;
      PS_TRY_VOID(candidate.reorder_cache(next->step.beam_idx, after));
      if (!sampled) PS_TRY_VOID(reference.reorder_cache(next->step.beam_idx, none));
      for (const auto& [name, value] : after.caches) {
        const auto before = caches.find(name);
        if (before == caches.end()) continue;
        const Tensor expected =
            rows_of_beams(before->second.view(), next->step.beam_idx, config.replicas);
        report.points.push_back(judge_exactly(number, name, value.view(), expected.view()));
        if (report.points.back().status == PointStatus::kOk || report.first_divergence) continue;
        report.first_divergence = {number, 0, name, "rows of the beams"};
        investigator.add(reorder_finding(*report.first_divergence, report.points.back(),
                                         before->second.view(), value.view(), next->step.beam_idx,
                                         config.replicas));
      }
      caches = std::move(after.caches);
      continue;
    }
    const std::int64_t past = script.past();
    PS_TRY(const std::unique_ptr<ReferenceStep> truth, [&] {
      const Phase phase(Work::kReference);
      return reference.step(next->inputs);
    }());
    PS_TRY(const std::int64_t own_from, begin_own_run(*truth, number, sampled, kept));
    auto current = std::make_unique<StepJudge>(config, *truth, next->inputs, number, past, how);
    StepJudge& judge = *current;
    if (earlier) {
      judge.inherit(earlier->wrong());
      judge.inherit_nonfinite(*earlier);
    }
    judge.on_right([&](const JudgedPoint& point) {
      const Phase phase(Work::kProbe);
      if (measured) power.watch(point);
    });
    judge.on_divergence([&](const JudgedPoint& point) {
      if (options.divergence && point.local != nullptr && !point.quiet) {
        options.divergence(number, point);
      }
      measured = false;  // of a run that is wrong nobody asks what else it could have shown
      const Phase phase(Work::kName);
      if (options.name_causes) investigator.look(number, point);
    });
    Votes expected(votes);
    judge.on_own(
        [&](const std::string& point, const Tensor& own) { expected.keep(point, own.view()); });
    Window window({judge, *truth, caches, options, power, measured, number, total, past, own_from,
                   plan.beams == 1 && (!votes || number == 0) && !sampled});
    PS_TRY_VOID([&] {
      const Phase phase(Work::kCandidate);
      return candidate.forward(next->inputs, window);
    }());
    window.finish();
    if (!window.status.ok()) return window.status.error();
    PS_TRY_VOID([&] {
      const Phase phase(Work::kReference);
      return truth->finish();
    }());
    if (window.votes.complete() && expected.complete()) {
      if (!report.replicas) report.replicas.emplace();
      PS_TRY_VOID(add_replica_votes(reference, config, next->inputs, number, past,
                                    window.votes.outputs(), expected.outputs(), {},
                                    *report.replicas));
    }
    for (std::string& point : window.left_out) {
      report.not_judged->points.emplace_back(number, std::move(point));
    }
    if (judge.sampled_tokens() > 0 && report.not_judged->rows.empty()) {
      report.not_judged->rows = "all but " + std::to_string(options.sample.rows()) + " of " +
                                std::to_string(judge.sampled_tokens()) +
                                " tokens of the projections";
    }
    empty_rows += judge.empty_rows();
    report.points.insert(report.points.end(), judge.rows().begin(), judge.rows().end());
    if (judge.first() && !report.first_divergence) report.first_divergence = judge.first();
    if (report.first_divergence && options.stop_at_first) break;
    spread = spread || judge.spread();
    if (judge.output()) outcome.captured = true;
    outcome.replicas_differ = outcome.replicas_differ || judge.replicas_differ();
    if (judge.output() && !judge.output()->equal) outcome.equal = false;
    earlier = std::move(current);
    caches = std::move(window.caches);
    logits = std::move(window.logits);
  }
  std::stable_sort(report.points.begin(), report.points.end(),
                   [](const PointRow& a, const PointRow& b) {
                     if (a.step != b.step) return a.step < b.step;
                     return point_before(a.point, b.point);
                   });
  if (report.first_divergence) report.verdict = Verdict::kDiverged;
  report.findings = investigator.findings(report.first_divergence, spread);
  add_unnamed(report);
  recognise_benign(report, config, outcome);
  if (measured && report.verdict == Verdict::kEquivalent && !report.points.empty()) {
    report.blind_spots = power.blind_spots();
    report.power = power.power();
  }
  char text[64];
  std::snprintf(text, sizeof text, "%.3g", how.lambda);
  report.environment.emplace_back("bound_lambda", text);
  std::snprintf(text, sizeof text, "%.3g", options.false_alarm);
  report.environment.emplace_back("false_alarm_chance", text);
  report.environment.emplace_back("rows_without_a_key", std::to_string(empty_rows));
  return report;
}

}  // namespace ps
