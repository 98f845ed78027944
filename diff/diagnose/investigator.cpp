#include "diff/diagnose/investigator.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "core/points.h"
#include "diff/compare/anatomy.h"
#include "diff/diagnose/known_faults.h"
#include "diff/isolate/additive_mask.h"
#include "diff/isolate/lockstep.h"

namespace ps {

namespace {

std::string number_json(double value) {
  if (!std::isfinite(value)) return "null";
  char text[40];
  std::snprintf(text, sizeof text, "%.6g", value);
  return text;
}

std::string list_json(const std::vector<std::string>& items) {
  std::string out = "[";
  for (const std::string& item : items) out += (out.size() > 1 ? "," : "") + json_string(item);
  return out + "]";
}

// "k_proj; theta = 10000"
std::string particulars(const Explanation& e) {
  std::string out = e.variant;
  for (const auto& [name, value] : e.parameters) {
    if (name.starts_with("with")) continue;  // of the other of two faults
    out += (out.empty() ? "" : "; ") + name + " = " + value;
  }
  return out;
}

// The second of two faults in one chain of ops that were not captured; it shares all numbers.
std::optional<Finding> second_of_two(const Explanation& e, const Finding& first) {
  constexpr std::string_view kOf = "with_";
  std::string id, more;
  Finding f = first;
  f.evidence.clear();
  for (const auto& [name, value] : e.parameters) {
    if (name == "with") id = value.substr(1, value.size() - 2);
    if (!name.starts_with(kOf)) continue;
    const std::string own = name.substr(kOf.size());
    f.evidence.emplace_back(own, value);
    more += (more.empty() ? "" : "; ") + (own == "variant" ? value : own + " = " + value);
  }
  const KnownFault* known = find_known_fault(id);
  if (known == nullptr) return std::nullopt;
  f.id = id;
  f.fault_class = known->fault_class;
  f.message = std::string(known->wrong) + (more.empty() ? "" : " (" + more + ")");
  f.fix = known->fix;
  f.evidence.emplace_back("together_with", json_string(e.id));
  for (const auto& [name, value] : first.evidence) {
    if (name.starts_with("error_") || name.starts_with("ratio") || name == "replayed_from") {
      f.evidence.emplace_back(name, value);
    }
  }
  return f;
}

std::string sentence(const Explanation& e) {
  const std::string more = particulars(e);
  return more.empty() ? e.message : e.message + " (" + more + ")";
}

Comparison compare_with(const JudgedPoint& point, const Replayed& hypothesis) {
  Replayed clean;
  clean.value = Tensor::copy_of(hypothesis.value.view());
  clean.bound = Tensor::copy_of(hypothesis.bound.view());
  clean_bounds(clean, point.rounding.captured, point.bound_factor);
  const TensorView ignored = point.ignored ? point.ignored->view() : TensorView();
  CompareOptions how;
  how.bound = BoundSpec::per_cell(clean.bound.view());
  // A quiet NaN lies in the very cells that are otherwise ignored.
  const bool fits = clean.value.shape() == point.candidate.shape;
  how.ignore = point.ignored && !point.quiet && fits ? &ignored : nullptr;
  return compare(point.candidate, clean.value.view(), how);
}

}  // namespace

std::vector<Explanation> ranked(std::vector<Explanation> all, bool late_step) {
  std::erase_if(all, [](const Explanation& e) { return !e.explains; });
  double best = HUGE_VAL;
  for (const Explanation& e : all) {
    if (!e.signature) best = std::min(best, e.rel_l2);
  }
  // Two faults that do the same leave the same rounding; one that is merely near leaves more.
  std::erase_if(
      all, [&](const Explanation& e) { return !e.signature && e.rel_l2 > 3.0 * best + 1e-12; });
  std::stable_sort(all.begin(), all.end(), [&](const Explanation& a, const Explanation& b) {
    if (a.signature != b.signature) return b.signature;
    if (late_step && a.late != b.late) return a.late;
    if (a.freedom != b.freedom) return a.freedom < b.freedom;
    return a.frequency > b.frequency;
  });
  return all;
}

std::vector<Explanation> Investigator::search(const JudgedPoint& point,
                                              const SuspectOptions& how) const {
  std::vector<Explanation> out;
  const Result<void> done = point.reference.suspects(
      point.op.point, point.lookup, point.rounding, how, [&](const Suspect& suspect) {
        Explanation e;
        e.id = suspect.fault.id;
        e.fault_class = suspect.fault.fault_class;
        e.message = suspect.fault.message;
        e.fix = suspect.fault.fix;
        e.frequency = suspect.fault.frequency;
        e.late = suspect.fault.late;
        e.variant = suspect.variant;
        e.parameters = suspect.parameters;
        e.freedom = suspect.freedom;
        e.signature = suspect.signature;
        const Comparison c = compare_with(point, *suspect.replayed);
        e.ratio = c.ratio;
        e.rel_l2 = c.rel_l2;
        e.explains = c.ok();
        if (c.same_shape) out.push_back(std::move(e));
        return true;
      });
  (void)done;  // an op that cannot be replayed has no explanation: it stays unnamed
  return out;
}

bool Investigator::explained_by_skipped_reorder(const JudgedPoint& point) const {
  if (!unordered_) return false;
  Result<Replayed> old = point.reference.replay(point.op.point, *unordered_, point.rounding);
  if (!old.ok()) return false;
  const Comparison c = compare_with(point, *old);
  return c.same_shape && c.ok();
}

Finding Investigator::named(std::int64_t step, const JudgedPoint& point,
                            const std::vector<Explanation>& all) const {
  const Explanation& cause = all.front();
  Finding f;
  f.id = cause.id;
  f.fault_class = cause.fault_class;
  f.step = step;
  f.point = point.op.point;
  f.where = point.place;
  f.message = sentence(cause);
  f.fix = cause.fix;
  f.confidence = cause.signature ? Confidence::kConsistent : Confidence::kExact;
  if (!cause.variant.empty()) f.evidence.emplace_back("variant", json_string(cause.variant));
  for (const auto& [name, value] : cause.parameters) f.evidence.emplace_back(name, value);
  if (point.local != nullptr) {
    f.evidence.emplace_back("ratio", number_json(point.local->ratio));
    f.evidence.emplace_back("error_before", number_json(point.local->rel_l2));
  }
  f.evidence.emplace_back("ratio_of_replay", number_json(cause.ratio));
  f.evidence.emplace_back("error_of_replay", number_json(cause.rel_l2));
  f.evidence.emplace_back("replayed_from", list_json(point.expected.basis));
  std::vector<std::string> others;
  for (const Explanation& other : all) {
    const bool known =
        other.id == cause.id || std::find(others.begin(), others.end(), other.id) != others.end();
    if (!known) others.push_back(other.id);
  }
  if (!others.empty()) f.evidence.emplace_back("confusable", list_json(others));
  return f;
}

Finding Investigator::unnamed(std::int64_t step, const JudgedPoint& point,
                              const std::vector<Explanation>& near) const {
  PointRow row;
  row.point = point.op.point;
  row.status = point.local == nullptr              ? PointStatus::kShape
               : point.local->class_mismatches > 0 ? PointStatus::kNonfinite
                                                   : PointStatus::kDiverged;
  if (point.local != nullptr) {
    row.ratio = point.local->ratio;
    row.max_abs = point.local->max_abs;
    row.rel_l2 = point.local->rel_l2;
  }
  Finding f = unnamed_finding({step, 0, point.op.point, point.place}, row);
  if (point.local == nullptr) {
    f.message += ": " + point.place;
    return f;
  }
  const TensorView ignored = point.ignored ? point.ignored->view() : TensorView();
  CompareOptions how;
  how.bound = BoundSpec::per_cell(point.expected.bound.view());
  how.ignore = point.ignored ? &ignored : nullptr;
  const std::int64_t rows = point.candidate.shape.empty() ? 0 : point.candidate.shape[0];
  const std::int64_t batch = rows % config_.replicas == 0 ? rows / config_.replicas : 0;
  const Anatomy a = anatomy(point.candidate, point.expected.value.view(), how, *point.local,
                            named_axes(point.op.point, point.candidate.shape, batch));
  if (!a.geometry.empty()) f.message += "; wrong are " + a.geometry;
  if (!a.relation.empty()) f.message += "; output = " + a.relation;
  f.evidence.insert(f.evidence.end(), a.evidence.begin(), a.evidence.end());
  if (!point.expected.law.empty()) f.evidence.emplace_back("law", json_string(point.expected.law));
  std::vector<Explanation> nearest = near;
  std::stable_sort(nearest.begin(), nearest.end(),
                   [](const Explanation& x, const Explanation& y) { return x.rel_l2 < y.rel_l2; });
  std::string list = "[";
  for (std::size_t i = 0; i < nearest.size() && i < 3; ++i) {
    list += std::string(i == 0 ? "" : ",") + "{\"id\":" + json_string(nearest[i].id) +
            ",\"how\":" + json_string(particulars(nearest[i])) +
            ",\"error_of_replay\":" + number_json(nearest[i].rel_l2) + "}";
  }
  if (list.size() > 1) f.evidence.emplace_back("nearest", list + "]");
  return f;
}

void Investigator::look(std::int64_t step, const JudgedPoint& point) {
  const bool late_step = point.past > 0 && (wrong_steps_.empty() || *wrong_steps_.begin() > 0);
  if (!point.quiet) wrong_steps_.insert(step);
  const auto keep = [&](Finding finding) {
    causes_.insert(finding.id);
    findings_.push_back(std::move(finding));
    also_.emplace_back();
  };
  if (const auto mask = additive_mask_finding(point.op, point.lookup)) {
    Finding finding = *mask;
    finding.step = step;
    if (!causes_.contains(finding.id)) keep(std::move(finding));
    return;
  }
  SuspectOptions how;
  how.seconds = options_.seconds_a_point;
  const TensorView ignored = point.ignored ? point.ignored->view() : TensorView();
  if (point.ignored && !point.quiet) how.ignored = ignored;
  // What was found before is tried first: one cause usually makes many points wrong.
  if (!causes_.empty() && !point.quiet) {
    SuspectOptions again = how;
    again.only.assign(causes_.begin(), causes_.end());
    const std::vector<Explanation> same = ranked(search(point, again), late_step);
    if (!same.empty()) {
      for (std::size_t i = 0; i < findings_.size(); ++i) {
        if (findings_[i].id == same[0].id) also_[i].push_back(point.op.point);
      }
      return;
    }
  }
  if (++searches_ > options_.searches) return;
  if (!point.quiet && explained_by_skipped_reorder(point)) {
    Explanation e;
    e.id = "cache-beam-reorder-skipped";
    e.fault_class = "cache";
    e.message = "the cache was not reordered after a beam step: rows keep the keys of another beam";
    e.fix = "call reorder_cache(beam_idx) for every layer's keys and values after each beam step";
    if (!causes_.contains(e.id)) keep(named(step, point, {e}));
    return;
  }
  const std::vector<Explanation> tried = search(point, how);
  const std::vector<Explanation> all = ranked(tried, late_step);
  if (point.quiet) {
    quiet_ = all.empty() ? unnamed(step, point, tried) : named(step, point, all);
    return;
  }
  if (!all.empty()) {
    Finding first = named(step, point, all);
    const std::optional<Finding> second = second_of_two(all.front(), first);
    keep(std::move(first));
    if (second) keep(*second);
    return;
  }
  // What cannot be explained may follow from what went wrong before in values that were not
  // captured: only the first is a finding, and others that start from captured values alone.
  const bool follows = !findings_.empty() && (point.expected.chain > 1 || point.local == nullptr);
  if (follows || ++unnamed_ > options_.unnamed) return;
  near_[{step, point.op.point}] = {point.local == nullptr ? 0 : point.local->rel_l2, tried};
  keep(unnamed(step, point, tried));
}

// A fault that explains other points down to rounding, and here all but a tenth of the error (an
// element was rounded the other way, a chain's bound is a little short): it is the same one.
void Investigator::name_by_others(std::vector<Finding>& findings) const {
  for (Finding& f : findings) {
    const auto near = near_.find({f.step, f.point});
    if (f.confidence != Confidence::kUnnamed || near == near_.end()) continue;
    for (const Explanation& e : near->second.tried) {
      const auto exact = std::find_if(findings.begin(), findings.end(), [&](const Finding& other) {
        return other.id == e.id && other.confidence == Confidence::kExact;
      });
      if (exact == findings.end() || e.signature || !(e.rel_l2 < 0.1 * near->second.error))
        continue;
      f.id = e.id;
      f.fault_class = e.fault_class;
      f.message = sentence(e);
      f.fix = e.fix;
      f.confidence = Confidence::kConsistent;
      f.evidence.emplace_back(
          "exact_at", json_string("step " + std::to_string(exact->step) + " " + exact->point));
      break;
    }
  }
}

std::vector<Finding> Investigator::findings(const std::optional<FirstDivergence>& first,
                                            bool spread) const {
  std::vector<Finding> out = findings_;
  name_by_others(out);
  for (std::size_t i = 0; i < out.size() && i < also_.size(); ++i) {
    if (also_[i].empty()) continue;
    std::vector<std::string> points = also_[i];
    if (points.size() > 8) points.resize(8);
    out[i].evidence.emplace_back("also_at", list_json(points));
    out[i].evidence.emplace_back("points", std::to_string(also_[i].size() + 1));
  }
  if (quiet_) {
    Finding f = *quiet_;
    if (!spread) {
      f.severity = Severity::kInfo;
      f.message = "rows that nobody reads hold NaN: " + f.message;
    }
    out.push_back(std::move(f));
  }
  // A mask follows the number of slots in the cache: where that is what changed, it is the cause.
  const auto mask = std::find_if(out.begin(), out.end(), [](const Finding& f) {
    return f.confidence == Confidence::kUnnamed && f.point.starts_with("model:mask") &&
           f.where.starts_with("shape ");
  });
  if (mask != out.end()) {
    const auto cache = std::find_if(out.begin(), out.end(), [&](const Finding& f) {
      return f.step == mask->step && f.fault_class == "cache" &&
             f.confidence != Confidence::kUnnamed && f.point.ends_with("_cache");
    });
    if (cache != out.end()) {
      cache->evidence.emplace_back("found_at", json_string(cache->point));
      cache->point = mask->point;
      cache->where = mask->where;
      out.erase(mask);
    }
  }
  if (first) {
    std::stable_partition(out.begin(), out.end(), [&](const Finding& f) {
      return f.step == first->step && f.point == first->point && f.severity == Severity::kError;
    });
  }
  return out;
}

}  // namespace ps
