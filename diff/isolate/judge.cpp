#include "diff/isolate/judge.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "diff/compare/axes.h"
#include "diff/compare/compare.h"
#include "diff/isolate/additive_mask.h"
#include "diff/isolate/finite_values.h"
#include "diff/isolate/row_sample.h"
#include "diff/run/phases.h"

namespace ps {

namespace {

// `shown`: the comparison whose errors the row tells, if that is another than the op's own.
void fill(PointRow& row, const Comparison& local, const Comparison& shown) {
  row.max_abs = shown.max_abs;
  row.rel_l2 = shown.rel_l2;
  row.max_ulp = shown.max_ulp;
  row.ratio = local.ratio;
  row.compared = local.compared;
  row.ignored = local.ignored;
}

}  // namespace

PointRow judge_exactly(std::int64_t step, const std::string& point, const TensorView& value,
                       const TensorView& expected) {
  const Comparison c = compare(value, expected, {});
  PointRow row;
  row.step = step;
  row.point = point;
  row.shape = value.shape;
  row.dtype = torch_name(value.dtype);
  row.status = c.ok()         ? PointStatus::kOk
               : c.same_shape ? PointStatus::kDiverged
                              : PointStatus::kShape;
  fill(row, c, c);
  return row;
}

// NaN bounds stand where the exact value is no number: classes decide there. Where nothing may be
// rounded, a thousandth of a last place (half a truth value) stands for zero, so that ratios stay
// numbers that can be written, sorted and compared.
namespace {

// A table or mask may be written out where the reference has one for all: a row for each sample or
// each row, a head for each head. Empty where no such shape holds both.
Shape with_axes_of_both(const Shape& value, const Shape& expected, std::int64_t batch,
                        const ModelConfig& config) {
  if (value.size() != expected.size()) return {};
  Shape out = expected;
  for (std::size_t axis = 0; axis < out.size(); ++axis) {
    if (expected[axis] != 1 || value[axis] == 1) continue;
    const bool rows = axis == 0 && (value[0] == batch || value[0] == batch * config.replicas);
    const bool heads = axis == 1 && out.size() == 4 && value[1] == config.heads;
    if (!rows && !heads) return {};
    out[axis] = value[axis];
  }
  return out;
}

}  // namespace

void clean_bounds(Replayed& exact, DType captured, double factor) {
  const bool floating = is_floating(captured);
  const double least = floating ? 1e-3 * unit_roundoff(captured) : 0.0;
  const TensorView value = exact.value.view();
  std::int64_t i = 0;
  for (double& b : exact.bound.as<double>()) {
    const double zero = floating ? least * std::fabs(value_at(value, i)) + 1e-30 : 0.5;
    ++i;
    b = std::isnan(b) ? zero : std::max(b * factor, zero);
    if (std::isnan(b)) b = 0.0;
  }
}

namespace {

// Rows p*B + b of all replicas p hold the same, but for a few roundings: then it does not matter
// how they are weighed.
bool equal_replicas(const TensorView& value, std::int64_t replicas, DType run) {
  const double most = std::min(1e-5, 8.0 * unit_roundoff(run));
  const std::int64_t n = value.count() / replicas;
  double apart = 0, size = 0;
  for (std::int64_t i = 0; i < value.count(); ++i) {
    const double first = value_at(value, i % n), here = value_at(value, i);
    apart += (here - first) * (here - first);
    size += here * here;
  }
  return apart <= most * most * size;
}

}  // namespace

StepJudge::StepJudge(const ModelConfig& config, ReferenceStep& reference, const StepInputs& inputs,
                     std::int64_t step, std::int64_t past, const JudgeOptions& options)
    : config_(config),
      reference_(reference),
      inputs_(inputs),
      step_(step),
      past_(past),
      options_(options),
      ignore_(config, inputs_, past) {}

PointRow StepJudge::base_row(const std::string& point, const TensorView& value) const {
  PointRow row;
  row.step = step_;
  row.point = point;
  row.shape = value.shape;
  row.dtype = torch_name(value.dtype);
  return row;
}

void StepJudge::judge_shape(const OpInfo& op, const TensorView& value, const Replayed& exact,
                            const PointLookup& lookup, const Rounding& rounding) {
  PointRow row = base_row(op.point, value);
  row.status = PointStatus::kShape;
  rows_.push_back(row);
  wrong_.insert(op.point);
  const std::string place =
      "shape " + to_string(value.shape) + ", expected " + to_string(exact.value.shape());
  if (!first_) first_ = {step_, 0, op.point, place};
  const std::optional<Tensor> ignored;
  if (divergence_) {
    divergence_(JudgedPoint{op, value, exact, nullptr, ignored, lookup, rounding,
                            options_.bound_factor, reference_, past_, place});
  }
}

// A NaN is wrong where it is born. Where that is a row that nobody compares (padding, or a query
// without a key), it is only remembered: it is the cause if a NaN reaches a cell that counts.
void StepJudge::watch_nonfinite(const JudgedPoint& point, const Comparison* whole, PointRow& row) {
  const std::int64_t at = first_nonfinite(point.candidate);
  if (at < 0) return;
  const auto& basis = point.expected.basis;
  const bool born = std::none_of(basis.begin(), basis.end(), [&](const std::string& name) {
    return nonfinite_.contains(name.starts_with("past:") ? name.substr(5) : name);
  });
  nonfinite_.insert(point.op.point);
  const bool counts = point.local->candidate.nonfinite() > 0;
  if (!counts && born && !quiet_ && point.local->ok()) {
    quiet_ = {step_, 0, point.op.point,
              place_of(named_axes(point.op.point, point.candidate.shape, inputs_.batch), at)};
    JudgedPoint quiet = point;
    quiet.quiet = true;
    quiet.place = quiet_->where;
    if (divergence_) divergence_(quiet);
  }
  if (counts && quiet_ && point.local->ok() && (whole == nullptr || whole->class_mismatches > 0)) {
    row.status = PointStatus::kPropagated;
    wrong_.insert(point.op.point);
    spread_ = true;
    if (!first_) first_ = quiet_;
  }
}

Result<void> StepJudge::take_over(const OpInfo& op, const PointRow& row, const Note& note) {
  if (options_.own_run) {
    PS_TRY(const Tensor own, own_of(op.point));
    if (own_) own_(op.point, own);
  }
  rows_.push_back(row);
  if (note.wrong) wrong_.insert(row.point);
  if (note.nonfinite) nonfinite_.insert(row.point);
  if (note.output_equal) output_ = {row.point, *note.output_equal};
  if (note.replicas_differ) replicas_differ_ = *note.replicas_differ;
  return {};
}

Result<Tensor> StepJudge::own_of(const std::string& point) {
  const Phase phase(Work::kReference);
  return reference_.own(point);
}

bool StepJudge::inherits(const Replayed& exact) const {
  return std::any_of(exact.basis.begin(), exact.basis.end(), [&](const std::string& name) {
    return name.starts_with("past:") ? wrong_before_.contains(name.substr(5))
                                     : wrong_.contains(name);
  });
}

bool StepJudge::judge_rows(const OpInfo& op, const TensorView& captured, const PointLookup& lookup,
                           const Rounding& rounding) {
  const std::optional<RowSample> some = RowSample::of(op, lookup, options_.rows);
  if (!some || first_nonfinite(captured) >= 0) return false;
  const PointLookup rows = some->lookup();
  Result<Replayed> exact = [&] {
    const Phase redone(Work::kReference);
    return reference_.replay(op.point, rows, rounding);
  }();
  const TensorView value = some->value();
  if (!exact.ok() || exact->value.shape() != value.shape) return false;
  clean_bounds(*exact, value.dtype, options_.bound_factor);
  const std::optional<Tensor> ignored = some->rows_of(ignore_.mask_for(op.point, captured.shape));
  const TensorView ignored_view = ignored ? ignored->view() : TensorView();
  CompareOptions how;
  how.bound = BoundSpec::per_cell(exact->bound.view());
  how.ignore = ignored ? &ignored_view : nullptr;
  const Comparison local = compare(value, exact->value.view(), how);
  if (!local.ok()) return false;
  PointRow row = base_row(op.point, captured);
  fill(row, local, local);
  if (inherits(*exact)) {
    row.status = PointStatus::kPropagated;
    wrong_.insert(op.point);
  }
  sampled_tokens_ = captured.shape[1];
  note_.plain = true;
  note_.wrong = row.status == PointStatus::kPropagated;
  rows_.push_back(row);
  const bool right = row.status == PointStatus::kOk;
  if (right && right_) {
    right_({op,
            value,
            *exact,
            &local,
            ignored,
            rows,
            rounding,
            options_.bound_factor,
            reference_,
            past_,
            {}});
  }
  return true;
}

Result<void> StepJudge::judge(const OpInfo& op, const PointLookup& lookup) {
  note_ = {};
  const Phase phase(Work::kCompare);
  const std::optional<TensorView> captured = lookup(op.point);
  if (!captured) {
    if (options_.own_run) {
      PS_TRY(const Tensor own, own_of(op.point));
      if (own_) own_(op.point, own);
    }
    return {};
  }
  Rounding rounding;
  rounding.run = options_.run;
  rounding.captured = is_floating(captured->dtype) ? captured->dtype : options_.run;
  if (op.kind == "rms_norm" && !op.inputs.empty()) {
    // What is normalised is rounded to its own type again, before the gain, whose type may be
    // finer.
    const std::optional<TensorView> x = lookup(op.inputs[0]);
    if (x && is_floating(x->dtype)) rounding.captured = coarser(rounding.captured, x->dtype);
  }
  rounding.lambda = options_.lambda;
  if (options_.rows > 0 && !options_.own_run && judge_rows(op, *captured, lookup, rounding)) {
    return {};
  }
  Result<Replayed> replayed = [&] {
    const Phase redone(Work::kReference);
    return reference_.replay(op.point, lookup, rounding);
  }();
  std::optional<Tensor> own;
  if (options_.own_run) {
    PS_TRY(own, own_of(op.point));
    if (own_) own_(op.point, *own);
  }
  if (!replayed.ok()) {
    // After a value of a wrong shape, what is made of it cannot be judged.
    if (replayed.error().kind != Error::Kind::kInput || (wrong_.empty() && wrong_before_.empty()))
      return replayed.error();
    PointRow row = base_row(op.point, *captured);
    row.status = PointStatus::kPropagated;
    rows_.push_back(row);
    wrong_.insert(op.point);
    return {};
  }
  Replayed exact = std::move(*replayed);

  // A mask of one row for all, a table of one row a sample, an extra leading axis of one: the same
  // value. Logits may be those of the last token alone.
  TensorView value = *captured;
  std::optional<Tensor> repeated;
  // A mask of numbers: what they mean is compared, and how they were made is looked at as well.
  const std::optional<AdditiveMask> additive =
      op.kind.starts_with("mask") ? read_additive_mask(value) : std::nullopt;
  if (additive) value = additive->allowed.view();
  const bool broken = additive && additive->broken();
  const Shape& full = exact.value.shape();
  if (op.point == "lm_head" && value.shape.size() == 3 && value.shape[1] == 1 && full[1] > 1 &&
      value.shape[0] == full[0] && value.shape[2] == full[2]) {
    exact.value = last_token(exact.value.view());
    exact.bound = last_token(exact.bound.view());
    if (own) own = last_token(own->view());
  } else if (value.shape != full) {
    const bool shared = op.kind == "rope_table" || op.kind == "mask";
    repeated = broadcast_to(value, full, shared);
    if (!repeated && shared) {
      const Shape whole = with_axes_of_both(value.shape, full, inputs_.batch, config_);
      repeated = broadcast_to(value, whole, true);
      if (repeated) {
        exact.value = *broadcast_to(exact.value.view(), whole, true);
        exact.bound = *broadcast_to(exact.bound.view(), whole, true);
        if (own) own = *broadcast_to(own->view(), whole, true);
      }
    }
    if (!repeated) {
      judge_shape(op, value, exact, lookup, rounding);
      return {};
    }
    value = repeated->view();
  }

  const std::optional<Tensor> ignored = ignore_.mask_for(op.point, value.shape);
  const TensorView ignored_view = ignored ? ignored->view() : TensorView();
  CompareOptions how;
  how.ignore = ignored ? &ignored_view : nullptr;
  const auto compared = [&](Replayed& with) {
    clean_bounds(with, value.dtype, options_.bound_factor);
    how.bound = BoundSpec::per_cell(with.bound.view());
    return compare(value, with.value.view(), how);
  };
  Comparison local = compared(exact);
  if (op.kind == "context" && local.class_mismatches > 0) {
    // What is masked has the weight 0. An engine may skip its values; 0 x NaN is no number.
    const FiniteValues finite(lookup);
    Result<Replayed> skipped = reference_.replay(op.point, finite.lookup(), rounding);
    if (skipped.ok() && skipped->value.shape() == value.shape) {
      Comparison again = compared(*skipped);
      if (again.ok()) {
        exact = std::move(*skipped);
        local = std::move(again);
      }
    }
    how.bound = BoundSpec::per_cell(exact.bound.view());
  }

  PointRow row = base_row(op.point, *captured);
  const Comparison* shown = &local;
  std::optional<Comparison> whole;
  if (own && own->shape() == value.shape) {
    CompareOptions against;
    against.bound = default_bound(value.dtype, options_.run, config_.layers);
    against.ignore = how.ignore;
    whole = compare(value, own->view(), against);
  }
  const bool right = local.ok() && !broken;
  if (!right) {
    row.status =
        broken || local.class_mismatches > 0 ? PointStatus::kNonfinite : PointStatus::kDiverged;
  } else if (inherits(exact)) {
    const bool differs = !whole || !whole->ok();
    row.status = differs ? PointStatus::kPropagated : PointStatus::kHealed;
    if (whole) shown = &*whole;
  } else {
    row.status = PointStatus::kOk;
  }
  fill(row, local, *shown);
  JudgedPoint judged{op,         value,  exact,    &local,
                     ignored,    lookup, rounding, options_.bound_factor,
                     reference_, past_,  {}};
  const auto quiet_before = quiet_.has_value();
  const bool spread_before = spread_;
  spread_ = false;
  watch_nonfinite(judged, whole ? &*whole : nullptr, row);
  note_.plain = right && !spread_ && quiet_.has_value() == quiet_before;
  note_.nonfinite = nonfinite_.contains(op.point);
  spread_ = spread_ || spread_before;
  rows_.push_back(row);
  const bool is_output = op.kind == "residual" || op.point == "model.norm" ||
                         op.kind == "aggregated" || op.point == "lm_head";
  if (op.point == "model.norm") {
    replicas_differ_ = !equal_replicas(value, config_.replicas, options_.run);
    note_.replicas_differ = replicas_differ_;
  }
  if (is_output && whole) {
    output_ = {op.point, whole->ok()};
    note_.output_equal = whole->ok();
  }
  if (!right || row.status == PointStatus::kPropagated) wrong_.insert(op.point);
  note_.wrong = wrong_.contains(op.point);
  if (right && right_ && row.status == PointStatus::kOk) right_(judged);
  if (!right) {
    judged.place = local.ok() ? "in its numbers, not in what they hide"
                              : place_of(named_axes(op.point, value.shape, inputs_.batch),
                                         local.first_wrong());
    // Tables are computed before the embedding and listed after it.
    const bool earlier = first_ && first_->step == step_ && point_before(op.point, first_->point) &&
                         (op.kind == "embed" || op.kind == "replicate");
    if (!first_ || earlier) {
      first_ = {step_, 0, op.point, judged.place};
      if (!exact.law.empty()) first_->where += "; " + exact.law;
    }
    if (divergence_) divergence_(judged);
  }
  return {};
}

}  // namespace ps
