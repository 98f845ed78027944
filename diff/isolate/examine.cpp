#include "diff/isolate/examine.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <set>
#include <utility>

#include "core/late_start.h"
#include "core/own_run.h"
#include "core/points.h"
#include "diff/diagnose/beams.h"
#include "diff/diagnose/benign.h"
#include "diff/diagnose/investigator.h"
#include "diff/diagnose/power.h"
#include "diff/isolate/lockstep.h"
#include "diff/mask/step_mask.h"
#include "diff/run/phases.h"

namespace ps {

namespace {

bool is_input(std::string_view name) {
  return name == "input_ids" || name == "attention_mask" || name == "position_ids" ||
         name == "input_mask";
}
bool is_cache(std::string_view point) {
  return point.ends_with(":k_cache") || point.ends_with(":v_cache") ||
         point.ends_with(":q_mean_cache");
}

// The candidate's values of one step under canonical names.
class StepValues {
 public:
  explicit StepValues(const TraceStep& step) {
    for (const auto& entry : step.tensors->entries()) {
      if (is_input(entry.name)) continue;
      // Where a trace has a module and its alias, the module's own name stands.
      const std::string name = canonical_point(entry.name);
      if (name == entry.name || !values_.contains(name)) values_.insert_or_assign(name, entry.view);
    }
  }
  std::optional<TensorView> find(std::string_view name) const {
    const auto it = values_.find(name);
    return it == values_.end() ? std::nullopt : std::optional(it->second);
  }
  const std::map<std::string, TensorView, std::less<>>& all() const { return values_; }

 private:
  std::map<std::string, TensorView, std::less<>> values_;
};

// All but the last `fresh` slots of a cache [R,K,C,D]: what it held before the step.
Tensor before_step(const TensorView& cache, std::int64_t fresh) {
  Shape shape = cache.shape;
  const std::int64_t slots = shape[2], kept = slots - fresh;
  shape[2] = kept;
  Tensor out(cache.dtype, shape);
  const auto row = static_cast<std::size_t>(shape[3] * size_of(cache.dtype));
  const std::int64_t rows = shape[0] * shape[1];
  for (std::int64_t r = 0; r < rows; ++r) {
    std::copy_n(cache.bytes.data() + static_cast<std::size_t>(r * slots) * row,
                static_cast<std::size_t>(kept) * row,
                out.bytes().data() + static_cast<std::size_t>(r * kept) * row);
  }
  return out;
}

// The cache before a step, for each point: the candidate's own of the step before; else this step's
// without its new slots; else rebuilt by the reference from what was captured then.
class PastCaches {
 public:
  static bool is_cache_of(const TensorView& value, std::int64_t rows) {
    return value.shape.size() == 4 && value.shape[0] == rows;
  }
  std::optional<TensorView> find(const std::string& point, const StepValues& now,
                                 std::int64_t fresh) {
    if (const auto it = known_.find(point); it != known_.end()) return it->second.view();
    if (const auto cache = now.find(point);
        cache && cache->shape.size() == 4 && cache->shape[2] > fresh) {
      return known_.insert_or_assign(point, before_step(*cache, fresh)).first->second.view();
    }
    const auto it = rebuilt_.find(point);
    return it == rebuilt_.end() ? std::nullopt : std::optional(it->second.view());
  }
  // After a step: its captured caches become the past; the others are rebuilt where they can be.
  // A cache of another form than [rows,K,C,D] is a finding of its own, and no past.
  void advance(const StepValues& now, ReferenceStep& reference, const PointLookup& lookup,
               DType run, std::int64_t rows) {
    std::map<std::string, Tensor> captured, rebuilt;
    for (const OpInfo& op : reference.ops()) {
      if (!is_cache(op.point)) continue;
      if (const auto value = now.find(op.point); value && is_cache_of(*value, rows)) {
        captured.insert_or_assign(op.point, Tensor::copy_of(*value));
        continue;
      }
      Rounding rounding;
      rounding.run = run;
      rounding.captured = run;
      if (Result<Replayed> made = reference.replay(op.point, lookup, rounding); made.ok()) {
        rebuilt.insert_or_assign(op.point, std::move(made->value));
      }
    }
    known_ = std::move(captured);
    rebuilt_ = std::move(rebuilt);
    unordered_.clear();
  }
  void reorder(const std::vector<std::int64_t>& beam_idx, std::int64_t replicas,
               const StepValues& now) {
    unordered_.clear();
    for (const auto& [name, cache] : rebuilt_)
      unordered_.insert_or_assign(name, Tensor::copy_of(cache.view()));
    for (const auto& [name, cache] : known_)
      unordered_.insert_or_assign(name, Tensor::copy_of(cache.view()));
    for (auto* caches : {&known_, &rebuilt_}) {
      for (auto& [name, cache] : *caches) cache = rows_of_beams(cache.view(), beam_idx, replicas);
    }
    const std::int64_t rows = replicas * static_cast<std::int64_t>(beam_idx.size());
    for (const auto& [name, view] : now.all()) {
      if (is_cache(name) && is_cache_of(view, rows))
        known_.insert_or_assign(name, Tensor::copy_of(view));
    }
  }
  const std::map<std::string, Tensor>& known() const { return known_; }
  // What the cache was before the last step reordered it; empty where the last step did not.
  const std::map<std::string, Tensor>& unordered() const { return unordered_; }

 private:
  std::map<std::string, Tensor> known_;    // captured, or cut from a captured one
  std::map<std::string, Tensor> rebuilt_;  // the reference's, in float64
  std::map<std::string, Tensor> unordered_;
};

void add_unmatched(const TraceStep& step, const StepValues& values, const std::vector<OpInfo>& ops,
                   Report& report) {
  for (const auto& [name, view] : values.all()) {
    const bool known =
        std::any_of(ops.begin(), ops.end(), [&](const OpInfo& op) { return op.point == name; });
    if (known || name.starts_with("grad/")) continue;
    PointRow row;
    row.step = step.step;
    row.rank = step.rank;
    row.point = name;
    row.shape = view.shape;
    row.dtype = torch_name(view.dtype);
    row.status = PointStatus::kUnmatched;
    report.points.push_back(row);
  }
}

// The steps of one rank, as a run of its own.
Result<Report> examine_rank(const Trace& trace, std::int64_t rank, const Model& model,
                            Reference& reference, const ExamineOptions& options) {
  Report report;
  if (trace.steps().empty()) return bad_input(trace.path().string(), "a trace without steps");
  const ModelConfig& config = model.config;
  const DType run = trace.run_dtype();
  double cells = 0;
  for (const TraceStep& step : trace.steps()) {
    for (const auto& entry : step.tensors->entries()) {
      cells += static_cast<double>(entry.view.count());
    }
  }
  JudgeOptions how;
  how.run = run;
  // The truth is no more exact than a float64 candidate: both err.
  if (run == DType::kF64) how.bound_factor = 2.0;
  how.lambda = lambda_for(cells, options.false_alarm);
  reference.reset();
  PastCaches past_caches;
  Investigator investigator(config, {});
  PowerMeter power(reference.faults(/*only_applicable=*/true), config);
  Outcome outcome{false, true, unit_roundoff(run) < 1e-6, false};
  std::unique_ptr<StepJudge> before;  // the step before's
  bool spread = false, measured = options.measure_power;
  std::int64_t done = 0, follows = 0;  // the number of the step that comes next
  bool begins = true;
  const auto total = static_cast<std::int64_t>(trace.steps().size());
  for (const TraceStep& step : trace.steps()) {
    if (options.progress) options.progress(done++, total);
    if (step.rank != rank || step.op == StepOp::kGenerate) continue;
    const StepValues values(step);
    if (step.op == StepOp::kReorderCache) {
      if (moves_rows(step.beam_idx)) power.reordered();
      NoTap none;
      if (how.own_run) PS_TRY_VOID(reference.reorder_cache(step.beam_idx, none));
      for (const auto& [name, cache] : past_caches.known()) {
        const auto after = values.find(name);
        if (!after) continue;
        const Tensor expected = rows_of_beams(cache.view(), step.beam_idx, config.replicas);
        report.points.push_back(judge_exactly(step.step, name, *after, expected.view()));
        if (report.points.back().status == PointStatus::kOk) continue;
        if (report.first_divergence) continue;
        report.first_divergence = {step.step, step.rank, name, "rows of the beams"};
        investigator.add(reorder_finding(*report.first_divergence, report.points.back(),
                                         cache.view(), *after, step.beam_idx, config.replicas));
      }
      past_caches.reorder(step.beam_idx, config.replicas, values);
      follows = step.step + 1;
      continue;
    }
    if (step.step != follows || begins) {
      const auto said = past_said_by(step, config, step.step == 0);
      auto* late = dynamic_cast<BeginsLate*>(&reference);
      if (late != nullptr && said && *said > 0 && *said != reference.past()) {
        late->begin_at(*said);
        past_caches = {};
        before.reset();
        how.own_run = false;
        report.environment.emplace_back("begins_at_step", std::to_string(step.step));
      }
    }
    follows = step.step + 1;
    begins = false;
    const std::int64_t past = reference.past();
    PS_TRY(const StepInputs inputs, mask::step_inputs_with_mask(step, config, past));
    PS_TRY(const std::unique_ptr<ReferenceStep> truth, [&] {
      const Phase phase(Work::kReference);
      return reference.step(inputs);
    }());
    if (auto* own = dynamic_cast<OwnRun*>(truth.get()); own != nullptr && !how.own_run) {
      OwnRunState all;
      all.ops = static_cast<std::int64_t>(truth->ops().size());
      PS_TRY_VOID(own->take_up(std::move(all)));
    }
    const PointLookup lookup = [&](std::string_view name) -> std::optional<TensorView> {
      if (name.starts_with("past:")) {
        return past_caches.find(std::string(name.substr(5)), values, inputs.length);
      }
      return values.find(name);
    };
    auto current = std::make_unique<StepJudge>(config, *truth, inputs, step.step, past, how);
    StepJudge& judge = *current;
    if (before) {
      judge.inherit(before->wrong());
      judge.inherit_nonfinite(*before);
    }
    const PointLookup unordered = [&](std::string_view name) -> std::optional<TensorView> {
      if (!name.starts_with("past:")) return values.find(name);
      const auto it = past_caches.unordered().find(std::string(name.substr(5)));
      return it == past_caches.unordered().end() ? std::nullopt : std::optional(it->second.view());
    };
    investigator.unordered_past(past_caches.unordered().empty() ? std::nullopt
                                                                : std::optional(unordered));
    judge.on_right([&](const JudgedPoint& point) {
      const Phase phase(Work::kProbe);
      if (measured) power.watch(point);
    });
    judge.on_divergence([&](const JudgedPoint& point) {
      if (options.divergence && point.local != nullptr && !point.quiet) {
        options.divergence(step.step, point);
      }
      measured = false;  // of a run that is wrong nobody asks what else it could have shown
      const Phase phase(Work::kName);
      if (options.name_causes) investigator.look(step.step, point);
    });
    for (const OpInfo& op : truth->ops()) PS_TRY_VOID(judge.judge(op, lookup));
    past_caches.advance(values, *truth, lookup, run, config.replicas * inputs.batch);
    if (!step.use_cache) {  // the next call starts anew
      reference.reset();
      past_caches = {};
    }
    PS_TRY_VOID([&] {
      const Phase phase(Work::kReference);
      return truth->finish();
    }());
    report.points.insert(report.points.end(), judge.rows().begin(), judge.rows().end());
    add_unmatched(step, values, truth->ops(), report);
    if (judge.first() && !report.first_divergence) report.first_divergence = judge.first();
    spread = spread || judge.spread();
    if (judge.output()) outcome.captured = true;
    outcome.replicas_differ = outcome.replicas_differ || judge.replicas_differ();
    if (judge.output() && !judge.output()->equal) outcome.equal = false;
    before = std::move(current);
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
  report.environment.emplace_back("dtype", json_string(torch_name(run)));
  report.environment.emplace_back("producer", json_string(trace.manifest().producer));
  return report;
}

void mark(Report& report, std::int64_t rank) {
  for (PointRow& row : report.points) row.rank = rank;
  for (Finding& f : report.findings) f.rank = rank;
  if (report.first_divergence) report.first_divergence->rank = rank;
}

// Another rank's report behind the first one's.
void append(Report& all, Report more) {
  for (PointRow& row : more.points) all.points.push_back(std::move(row));
  for (Finding& f : more.findings) all.findings.push_back(std::move(f));
  if (more.verdict != Verdict::kDiverged) return;
  all.verdict = Verdict::kDiverged;
  all.blind_spots.clear();
  all.power.reset();
  if (!more.first_divergence) return;
  if (!all.first_divergence || more.first_divergence->step < all.first_divergence->step) {
    all.first_divergence = more.first_divergence;
  }
}

}  // namespace

Result<Report> examine(const Trace& trace, const Model& model, Reference& reference,
                       const ExamineOptions& options) {
  std::set<std::int64_t> ranks;
  for (const TraceStep& step : trace.steps()) ranks.insert(step.rank);
  const std::int64_t lowest = ranks.empty() ? 0 : *ranks.begin();
  PS_TRY(Report report, examine_rank(trace, lowest, model, reference, options));
  mark(report, lowest);
  // Ranks that share no op, each with its own part of the batch (the others were joined before).
  for (const std::int64_t rank : ranks) {
    if (rank == lowest) continue;
    ExamineOptions other = options;
    other.measure_power = false;
    PS_TRY(Report more, examine_rank(trace, rank, model, reference, other));
    mark(more, rank);
    append(report, std::move(more));
  }
  if (ranks.size() < 2) return report;
  std::stable_sort(report.points.begin(), report.points.end(),
                   [](const PointRow& a, const PointRow& b) {
                     if (a.step != b.step) return a.step < b.step;
                     return point_before(a.point, b.point);
                   });
  const auto& first = report.first_divergence;
  std::stable_partition(report.findings.begin(), report.findings.end(), [&](const Finding& f) {
    return first && f.step == first->step && f.rank == first->rank && f.point == first->point;
  });
  return report;
}

}  // namespace ps
