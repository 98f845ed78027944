#include "diff/align/diff_traces.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <optional>

#include "core/parallel.h"
#include "core/points.h"
#include "core/trace_extras.h"
#include "diff/align/guard.h"
#include "diff/align/ignored_cells.h"
#include "diff/align/shape_match.h"
#include "diff/compare/anatomy.h"
#include "diff/compare/compare.h"
#include "diff/isolate/lockstep.h"

namespace ps {

namespace {

// Cells; below this, whole points run side by side. Larger ones do too while there are many of them
// for each thread: taken one by one, all threads would wait for the last block of each.
constexpr std::int64_t kLarge = 1 << 20;
constexpr std::int64_t kPointsPerThread = 8;

bool is_table(const std::optional<PointRef>& ref) {
  return ref && (ref->spec->op == "rope_table" || ref->spec->op == "rope_freq" ||
                 ref->spec->op == "replica_rope_table");
}

struct Judged {
  PointRow row;
  Comparison compared;
  std::string aligned;  // what match_shape() did
  bool candidate_zero = false, expected_zero = false;
};

class Differ {
 public:
  Differ(const Trace& candidate, const Trace& expected, const DiffOptions& options)
      : candidate_(candidate),
        expected_(expected),
        candidate_type_(type_of(candidate)),
        expected_type_(type_of(expected)),
        options_(options),
        steps_(pair_traces(candidate, expected, options.rename)),
        layers_(layers_shown(steps_)) {
    for (const StepPair& step : steps_) {
      for (const Pair& pair : step.pairs) {
        knows_points_ = knows_points_ || find_point(pair.point).has_value();
        in_common_ = in_common_ || (pair.candidate != nullptr && pair.expected != nullptr);
      }
    }
  }

  Report run() {
    describe();
    report_.findings = guard_runs(candidate_, expected_, steps_);
    if (!in_common_) nothing_in_common();
    if (has_error()) {
      report_.verdict = Verdict::kInvalid;
      return std::move(report_);
    }
    judged_.resize(steps_.size());
    for (std::size_t i = 0; i < steps_.size(); ++i) judge_step(i);
    collect();
    std::vector<Finding> bad =
        guard_captures(guarded(), [&](const TensorView& a, const TensorView& b) {
          return a.shape == b.shape && compare(a, b, {bound_for("", a, b)}).ok();
        });
    if (!bad.empty()) {
      report_.verdict = Verdict::kInvalid;
      report_.first_divergence.reset();
      report_.findings.insert(report_.findings.begin(), bad.begin(), bad.end());
    }
    return std::move(report_);
  }

 private:
  bool has_error() const {
    return std::any_of(report_.findings.begin(), report_.findings.end(),
                       [](const Finding& f) { return f.severity == Severity::kError; });
  }

  void describe() {
    report_.inputs.emplace_back("candidate", json_string(candidate_.path().string()));
    report_.inputs.emplace_back("expected", json_string(expected_.path().string()));
    report_.inputs.emplace_back("candidate_producer", json_string(candidate_.manifest().producer));
    report_.inputs.emplace_back("expected_producer", json_string(expected_.manifest().producer));
    report_.inputs.emplace_back("layers", std::to_string(layers_));
    if (options_.tolerance) {
      char text[80];
      std::snprintf(text, sizeof text, "{\"atol\": %.9g, \"rtol\": %.9g}",
                    options_.tolerance->first, options_.tolerance->second);
      report_.inputs.emplace_back("tolerance", text);
    }
  }

  void nothing_in_common() {
    Finding f;
    f.id = "capture-nothing-in-common";
    f.fault_class = "capture";
    f.message = "the two traces have no point of the same name in the same step and rank";
    report_.findings.push_back(std::move(f));
  }

  // The type that a run says it computed in; under autocast, that of its products.
  static std::optional<DType> type_of(const Trace& trace) {
    const Result<TraceExtras> extras = trace_extras(trace);
    if (!extras.ok() || !extras->autocast) return trace.manifest().dtype;
    return coarser(trace.manifest().dtype.value_or(*extras->autocast), *extras->autocast);
  }
  // A tensor that a run of fewer bits stored in a wider type has the errors of that run.
  static DType errors_of(const std::optional<DType>& run, std::string_view point, DType stored) {
    if (!is_floating(stored) || !run || is_table(find_point(point))) return stored;
    return coarser(stored, *run);
  }
  BoundSpec bound_for(std::string_view point, const TensorView& a, const TensorView& b) const {
    if (options_.tolerance) {
      if (!is_floating(a.dtype) && !is_floating(b.dtype)) return BoundSpec::exact();
      return BoundSpec::formula(options_.tolerance->first, options_.tolerance->second);
    }
    return default_bound(errors_of(candidate_type_, point, a.dtype),
                         errors_of(expected_type_, point, b.dtype), layers_);
  }

  void judge_step(std::size_t at) {
    const StepPair& step = steps_[at];
    std::vector<Judged>& out = judged_[at];
    out.resize(step.pairs.size());
    const IgnoredCells ignored =
        step.expected != nullptr ? IgnoredCells(*step.expected) : IgnoredCells(TraceStep());
    ignored_.push_back(ignored);
    const auto cells = [](const Pair& p) {
      return p.candidate != nullptr ? p.candidate->count() : std::int64_t{0};
    };
    std::int64_t all = 0;
    for (const Pair& p : step.pairs) all += cells(p);
    const std::int64_t share = all / (kPointsPerThread * thread_count(options_.threads));
    const auto large = [&](const Pair& p) { return cells(p) >= std::max(kLarge, share); };
    parallel_for(static_cast<std::int64_t>(step.pairs.size()), options_.threads,
                 [&](std::int64_t i) {
                   const auto k = static_cast<std::size_t>(i);
                   if (!large(step.pairs[k])) out[k] = judge(step.pairs[k], ignored, 1);
                 });
    for (std::size_t k = 0; k < step.pairs.size(); ++k) {
      if (large(step.pairs[k])) out[k] = judge(step.pairs[k], ignored, options_.threads);
    }
  }

  Judged judge(const Pair& pair, const IgnoredCells& ignored, int threads) const {
    Judged out;
    PointRow& row = out.row;
    const TensorView& shown = pair.candidate != nullptr ? *pair.candidate : *pair.expected;
    row.step = pair.step;
    row.rank = pair.rank;
    row.point = pair.point;
    row.shape = shown.shape;
    row.dtype = torch_name(shown.dtype);
    if (pair.expected == nullptr) {
      row.status = PointStatus::kUnmatched;
      return out;
    }
    if (pair.candidate == nullptr) {
      // Names that nobody knows are no points, unless there is nothing else.
      // A parameter's gradient is no point of the model, yet its absence says that none reached it.
      const bool point =
          find_point(pair.point).has_value() || pair.point.starts_with("grad/") || !knows_points_;
      row.status = point ? PointStatus::kMissing : PointStatus::kUnmatched;
      return out;
    }
    const std::optional<ShapeMatch> match =
        match_shape(pair.point, *pair.candidate, *pair.expected);
    if (!match) {
      row.status = PointStatus::kShape;
      row.ratio = HUGE_VAL;
      return out;
    }
    out.aligned = match->what;
    const std::optional<Tensor> marks = ignored.marks_for(pair.point, match->expected.shape);
    const TensorView marks_view = marks ? marks->view() : TensorView();
    CompareOptions options;
    options.bound = bound_for(pair.point, *pair.candidate, *pair.expected);
    options.ignore = marks ? &marks_view : nullptr;
    options.threads = threads;
    out.compared = compare(match->view, match->expected, options);
    const Comparison& c = out.compared;
    row.max_abs = c.max_abs;
    row.rel_l2 = c.rel_l2;
    row.max_ulp = c.max_ulp;
    row.ratio = c.class_mismatches > 0 ? HUGE_VAL : c.ratio;
    row.compared = c.compared;
    row.ignored = c.ignored;
    out.candidate_zero = c.rms_candidate == 0 && c.candidate.nonfinite() == 0 && c.compared > 0;
    out.expected_zero = c.rms_expected == 0 && c.expected.nonfinite() == 0;
    if (c.compared == 0) {
      row.status = c.ignored > 0 ? PointStatus::kIgnored : PointStatus::kOk;
    } else if (c.class_mismatches > 0 && c.candidate.nonfinite() > c.expected.nonfinite()) {
      row.status = PointStatus::kNonfinite;
    } else {
      row.status = c.ok() ? PointStatus::kOk : PointStatus::kDiverged;
    }
    return out;
  }

  static bool is_wrong(PointStatus s) {
    return s == PointStatus::kDiverged || s == PointStatus::kNonfinite || s == PointStatus::kShape;
  }

  void collect() {
    bool missing = false;
    std::map<std::string, std::vector<const Pair*>> aligned;
    std::vector<const Pair*> extra, unknown_nan;
    for (std::size_t i = 0; i < steps_.size(); ++i) {
      std::vector<const Pair*> lost;
      for (std::size_t k = 0; k < judged_[i].size(); ++k) {
        const Judged& j = judged_[i][k];
        const Pair& pair = steps_[i].pairs[k];
        report_.points.push_back(j.row);
        if (j.row.status == PointStatus::kMissing) lost.push_back(&pair);
        if (j.row.status == PointStatus::kUnmatched) extra.push_back(&pair);
        if (!j.aligned.empty()) aligned[j.aligned].push_back(&pair);
        if (j.compared.nan_on_both > 0) unknown_nan.push_back(&pair);
        if (is_wrong(j.row.status) && !report_.first_divergence) first(i, k);
      }
      missing = missing || !lost.empty();
      list(lost, "missing-point", options_.allow_missing ? Severity::kWarning : Severity::kError,
           " of the expected trace that the candidate lacks: ");
    }
    list(extra, "unmatched-name", Severity::kInfo, " that only one trace has: ");
    list(unknown_nan, "nan-on-both-sides", Severity::kWarning,
         " with NaN at the same places on both sides, where nothing was compared: ");
    for (const auto& [what, pairs] : aligned) {
      list(pairs, "aligned", Severity::kInfo, " aligned, " + what + ": ");
    }
    if (report_.first_divergence || (missing && !options_.allow_missing)) {
      report_.verdict = Verdict::kDiverged;
    }
    if (report_.first_divergence && !report_.findings.empty()) {
      std::stable_partition(report_.findings.begin(), report_.findings.end(),
                            [](const Finding& f) { return f.id == "unnamed"; });
    }
  }

  void list(const std::vector<const Pair*>& pairs, const std::string& id, Severity severity,
            const std::string& words) {
    if (pairs.empty()) return;
    Finding f;
    f.id = id;
    f.fault_class = "capture";
    f.severity = severity;
    f.step = pairs[0]->step;
    f.rank = pairs[0]->rank;
    f.point = pairs[0]->point;
    f.message = std::to_string(pairs.size()) + (pairs.size() == 1 ? " point" : " points") + words;
    std::string names = "[";
    constexpr std::size_t kMost = 6;
    for (std::size_t i = 0; i < pairs.size(); ++i) {
      if (i < kMost) f.message += (i > 0 ? ", " : "") + pairs[i]->point;
      names += (i > 0 ? ", " : "") + json_string(pairs[i]->point);
    }
    if (pairs.size() > kMost) f.message += " and others";
    f.evidence.emplace_back("points", names + "]");
    report_.findings.push_back(std::move(f));
  }

  // The first wrong point, looked at closely.
  void first(std::size_t step, std::size_t index) {
    const Pair& pair = steps_[step].pairs[index];
    const Judged& judged = judged_[step][index];
    Finding f;
    f.id = "unnamed";
    f.fault_class = fault_class_of(pair.point);
    f.confidence = Confidence::kUnnamed;
    f.step = pair.step;
    f.rank = pair.rank;
    f.point = pair.point;
    if (judged.row.status == PointStatus::kShape) {
      f.message = "shape " + to_string(pair.candidate->shape) + ", expected " +
                  to_string(pair.expected->shape);
      f.evidence = {{"shape", to_string(pair.candidate->shape)},
                    {"expected_shape", to_string(pair.expected->shape)}};
    } else {
      const std::optional<ShapeMatch> match =
          match_shape(pair.point, *pair.candidate, *pair.expected);
      const std::optional<Tensor> marks =
          ignored_[step].marks_for(pair.point, match->expected.shape);
      const TensorView marks_view = marks ? marks->view() : TensorView();
      CompareOptions options;
      options.bound = bound_for(pair.point, *pair.candidate, *pair.expected);
      options.ignore = marks ? &marks_view : nullptr;
      const std::vector<NamedAxis> axes =
          named_axes(pair.point, match->expected.shape, ignored_[step].batch());
      const Anatomy look = anatomy(match->view, match->expected, options, judged.compared, axes);
      f.where = look.first;
      f.message = sentence(judged, look);
      f.evidence = look.evidence;
      if (options_.divergence) {
        PointRow row = judged.row;
        row.shape = match->expected.shape;
        options_.divergence(row, [&](std::int64_t i) {
          return cell_ratio(match->view, match->expected, options.bound, judged.compared, i);
        });
      }
    }
    report_.first_divergence = FirstDivergence{pair.step, pair.rank, pair.point, f.where};
    report_.findings.insert(report_.findings.begin(), std::move(f));
  }

  static std::string sentence(const Judged& judged, const Anatomy& look) {
    const Comparison& c = judged.compared;
    std::string out;
    char text[160];
    if (judged.row.status == PointStatus::kNonfinite) {
      std::snprintf(text, sizeof text, "%lld cells are NaN or infinite where %lld should be",
                    static_cast<long long>(c.candidate.nonfinite()),
                    static_cast<long long>(c.expected.nonfinite()));
      out = text;
    } else if (c.class_mismatches > 0) {
      std::snprintf(text, sizeof text,
                    "%lld cells are of another class (infinity, lowest value, number)",
                    static_cast<long long>(c.class_mismatches));
      out = text;
    } else {
      std::snprintf(text, sizeof text,
                    "max |error| %.3g, relative error %.3g, %.3g times the bound", c.max_abs,
                    c.rel_l2, c.ratio);
      out = text;
    }
    out += "; wrong: " + look.geometry;
    if (!look.relation.empty()) out += "; the candidate is " + look.relation;
    return out;
  }

  std::vector<std::vector<JudgedPair>> guarded() const {
    std::vector<std::vector<JudgedPair>> out;
    for (std::size_t i = 0; i < steps_.size(); ++i) {
      std::vector<JudgedPair> step;
      for (std::size_t k = 0; k < judged_[i].size(); ++k) {
        const Judged& j = judged_[i][k];
        step.push_back({&steps_[i].pairs[k], j.row.status, j.candidate_zero, j.expected_zero});
      }
      out.push_back(std::move(step));
    }
    return out;
  }

  const Trace& candidate_;
  const Trace& expected_;
  const std::optional<DType> candidate_type_, expected_type_;
  const DiffOptions& options_;
  std::vector<StepPair> steps_;
  std::int64_t layers_ = 0;
  bool knows_points_ = false, in_common_ = false;
  std::vector<std::vector<Judged>> judged_;
  std::vector<IgnoredCells> ignored_;
  Report report_;
};

}  // namespace

Report diff_traces(const Trace& candidate, const Trace& expected, const DiffOptions& options) {
  return Differ(candidate, expected, options).run();
}

}  // namespace ps
