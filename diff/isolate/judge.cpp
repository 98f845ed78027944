#include "diff/isolate/judge.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "diff/compare/axes.h"
#include "diff/compare/compare.h"
#include "diff/isolate/additive_mask.h"
#include "diff/run/phases.h"

namespace ps {

Tensor rows_of_beams(const TensorView& cache, const std::vector<std::int64_t>& beam_idx,
                     std::int64_t replicas) {
  const std::int64_t batch = cache.shape[0] / replicas;
  const auto beams = static_cast<std::int64_t>(beam_idx.size());
  Shape shape = cache.shape;
  shape[0] = replicas * beams;
  Tensor out(cache.dtype, shape);
  const std::size_t row =
      cache.bytes.size() / static_cast<std::size_t>(std::max<std::int64_t>(1, cache.shape[0]));
  for (std::int64_t p = 0; p < replicas; ++p) {
    for (std::int64_t b = 0; b < beams; ++b) {
      const auto from = static_cast<std::size_t>(p * batch + beam_idx[static_cast<std::size_t>(b)]);
      if (from >= static_cast<std::size_t>(cache.shape[0])) continue;
      std::copy_n(cache.bytes.data() + from * row, row,
                  out.bytes().data() + static_cast<std::size_t>(p * beams + b) * row);
    }
  }
  return out;
}

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
  row.max_abs = c.max_abs;
  row.rel_l2 = c.rel_l2;
  row.max_ulp = c.max_ulp;
  row.ratio = c.ratio;
  row.compared = c.compared;
  return row;
}

std::optional<Tensor> broadcast_to(const TensorView& value, const Shape& shape,
                                   bool rows_of_samples) {
  Shape from = value.shape;
  while (from.size() > shape.size() && from.front() == 1) from.erase(from.begin());
  while (from.size() < shape.size()) from.insert(from.begin(), 1);
  if (from.size() != shape.size()) return std::nullopt;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    // Replica-major rows: row r is sample r mod B.
    const bool tiled = rows_of_samples && i == 0 && from[i] > 0 && shape[i] % from[i] == 0;
    if (from[i] != shape[i] && from[i] != 1 && !tiled) return std::nullopt;
  }
  Tensor out(value.dtype, shape);
  const auto size = static_cast<std::size_t>(size_of(value.dtype));
  const std::int64_t n = count_of(shape);
  for (std::int64_t i = 0; i < n; ++i) {
    std::int64_t rest = i, source = 0, stride = 1;
    for (std::size_t axis = shape.size(); axis-- > 0;) {
      source += rest % shape[axis] % from[axis] * stride;
      rest /= shape[axis];
      stride *= from[axis];
    }
    std::memcpy(out.bytes().data() + static_cast<std::size_t>(i) * size,
                value.bytes.data() + static_cast<std::size_t>(source) * size, size);
  }
  return out;
}

Tensor last_token(const TensorView& value) {
  const std::int64_t batch = value.shape[0], length = value.shape[1];
  Tensor out(value.dtype, {batch, 1, value.shape[2]});
  const auto row = static_cast<std::size_t>(value.shape[2] * size_of(value.dtype));
  for (std::int64_t b = 0; b < batch; ++b) {
    std::copy_n(value.bytes.data() + static_cast<std::size_t>((b + 1) * length - 1) * row, row,
                out.bytes().data() + static_cast<std::size_t>(b) * row);
  }
  return out;
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

std::int64_t first_nonfinite(const TensorView& value) {
  if (!is_floating(value.dtype)) return -1;
  const std::int64_t n = value.count();
  for (std::int64_t i = 0; i < n; ++i) {
    if (!std::isfinite(value_at(value, i))) return i;
  }
  return -1;
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

Result<Tensor> StepJudge::own_of(const std::string& point) {
  const Phase phase(Work::kReference);
  return reference_.own(point);
}

Result<void> StepJudge::judge(const OpInfo& op, const PointLookup& lookup) {
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
  clean_bounds(exact, value.dtype, options_.bound_factor);
  CompareOptions how;
  how.bound = BoundSpec::per_cell(exact.bound.view());
  how.ignore = ignored ? &ignored_view : nullptr;
  const Comparison local = compare(value, exact.value.view(), how);

  const bool inherits =
      std::any_of(exact.basis.begin(), exact.basis.end(), [&](const std::string& name) {
        return name.starts_with("past:") ? wrong_before_.contains(name.substr(5))
                                         : wrong_.contains(name);
      });
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
  } else if (inherits) {
    const bool differs = !whole || !whole->ok();
    row.status = differs ? PointStatus::kPropagated : PointStatus::kHealed;
    if (whole) shown = &*whole;
  } else {
    row.status = PointStatus::kOk;
  }
  row.max_abs = shown->max_abs;
  row.rel_l2 = shown->rel_l2;
  row.max_ulp = shown->max_ulp;
  row.ratio = local.ratio;
  row.compared = local.compared;
  row.ignored = local.ignored;
  JudgedPoint judged{op,         value,  exact,    &local,
                     ignored,    lookup, rounding, options_.bound_factor,
                     reference_, past_,  {}};
  watch_nonfinite(judged, whole ? &*whole : nullptr, row);
  rows_.push_back(row);
  const bool is_output = op.kind == "residual" || op.point == "model.norm" ||
                         op.kind == "aggregated" || op.point == "lm_head";
  if (op.point == "model.norm") {
    replicas_differ_ = !equal_replicas(value, config_.replicas, options_.run);
  }
  if (is_output && whole) output_ = {op.point, whole->ok()};
  if (!right || row.status == PointStatus::kPropagated) wrong_.insert(op.point);
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
