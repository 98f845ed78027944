#include "reference/step.h"

#include <algorithm>
#include <optional>

#include "core/points.h"
#include "reference/bridge.h"
#include "reference/ops/blocks.h"
#include "reference/ops/sparse_attention.h"
#include "reference/rounding_law.h"
#include "reference/sparse_bounds.h"

namespace ps::reference {

namespace {

std::string plain(const std::string& name) { return is_past(name) ? name.substr(5) : name; }

bool is_cache(std::string_view point) {
  return point.ends_with(":k_cache") || point.ends_with(":v_cache") ||
         point.ends_with(":q_mean_cache");
}

// An extra leading axis of one is the same value.
at::Tensor without_leading_ones(const std::string& point, at::Tensor value) {
  const std::optional<PointRef> ref = find_point(canonical_point(point));
  if (!ref) return value;
  const auto axes = 1 + std::count(ref->spec->axes.begin(), ref->spec->axes.end(), ',');
  while (value.dim() > axes && value.size(0) == 1) value = value.squeeze(0);
  return value;
}

// How far a value may be from what the op read that comes next: half a last place of the type that
// it was stored in, where its engine holds it in a finer one; else 0.
double lost_by_storing(const std::string& name, const TensorView& given, const Types& types) {
  if (!is_floating(given.dtype) || name.starts_with("model:mask")) return 0;
  const at::ScalarType type = point_type(name, types);
  const double stored = unit_roundoff(given.dtype);
  const double held = unit_roundoff(type == at::kDouble     ? DType::kF64
                                    : type == at::kHalf     ? DType::kF16
                                    : type == at::kBFloat16 ? DType::kBF16
                                                            : DType::kF32);
  return stored > held ? stored : 0;
}

// As an engine may have had it: every cell off by up to `most` of itself, a different part of that
// each, the same in every run. (Multiples of the golden ratio's fraction are spread evenly.)
at::Tensor as_before_storing(const at::Tensor& x, double most) {
  const at::Tensor steps = at::arange(1, x.numel() + 1, at::TensorOptions().dtype(at::kDouble));
  const at::Tensor part = (steps * 0.6180339887498949).frac() * 2.0 - 1.0;
  return x.to(at::kDouble) * (1.0 + part.view_as(x) * most);
}

}  // namespace

// A mask of numbers is an additive one (what is hidden is far below zero, or minus infinity), or
// ones where it may attend.
at::Tensor from_capture(const std::string& point, const TensorView& view, const Types& types) {
  const at::Tensor value = without_leading_ones(point, borrow(view));
  if (point.starts_with("model:mask") && value.is_floating_point()) {
    const bool zero_or_one = value.eq(0).logical_or(value.eq(1)).all().item<bool>();
    if (zero_or_one && value.eq(1).any().item<bool>()) return value.eq(1);
    return value.to(at::kDouble).le(-1000.0).logical_not();
  }
  return value.to(point_type(point, types));
}

StepByOps::StepByOps(ReferenceEngine& engine, StepInputs inputs)
    : engine_(engine),
      inputs_(std::move(inputs)),
      net_(engine.context(inputs_, engine.past_, engine.past_ == 0)) {
  build(net_);
  for (const Op& op : net_.ops()) {
    infos_.push_back({op.point, op.kind, op.inputs, op.weights});
    for (const Point& input : op.inputs) ++readers_left_[input];
  }
}

Weights& StepByOps::same_type_weights(DType run) {
  if (!engine_.same_type_) engine_.same_type_.emplace(engine_.checkpoint_, scalar_type(run));
  return *engine_.same_type_;
}

const Net& StepByOps::same_net(DType run) {
  if (!same_net_ || same_dtype_ != run) {
    StepContext context = net_.context();
    context.types = types_of(scalar_type(run));
    same_net_.emplace(context);
    build(*same_net_);
    same_dtype_ = run;
  }
  return *same_net_;
}

// Runs one op on values that are given or were computed by the ops before it. The pass in the
// candidate's type is only needed where something was not given.
Result<StepByOps::Value> StepByOps::run_op(const Op& right, Pass& pass, bool with_same_type) {
  pass.ran.push_back(&right);
  const bool wrong = pass.wrong != nullptr && pass.wrong->contains(right.point);
  const Op& op = wrong ? pass.wrong->at(right.point) : right;
  Tensors in, same_in;
  for (const Point& name : op.inputs) {
    PS_TRY(const Value value, value_of(name, pass));
    in.push_back(value.exact);
    same_in.push_back(value.same_type.defined() ? value.same_type : value.exact);
  }
  Tensors w;
  for (const std::string& name : op.weights) w.push_back(engine_.weights_.get(name));
  Value out;
  out.exact = op.run(in, w);
  if (!with_same_type) return out;

  const Types types = types_of(scalar_type(pass.rounding.run));
  const Op* same_op =
      wrong ? &pass.wrong_same->at(op.point) : same_net(pass.rounding.run).find(op.point);
  for (std::size_t i = 0; i < same_in.size(); ++i) {
    same_in[i] = same_in[i].to(point_type(plain(op.inputs[i]), types));
  }
  Weights& weights = same_type_weights(pass.rounding.run);
  Tensors same_w;
  for (const std::string& name : op.weights) same_w.push_back(weights.get(name));
  out.same_type = same_op->run(same_in, same_w);
  if (out.same_type.is_floating_point()) out.same_type = out.same_type.to(at::kDouble);
  return out;
}

Result<StepByOps::Value> StepByOps::value_of(const std::string& name, Pass& pass) {
  if (const auto it = pass.known.find(name); it != pass.known.end()) return it->second;
  Value value;
  if (const std::optional<TensorView> given = pass.lookup(name)) {
    value.exact = from_capture(plain(name), *given, engine_.types_);
    // Tables may come with a row a sample; the ops want one a replica-major row.
    const std::int64_t batch = inputs_.batch, rows = net_.context().rows();
    const bool table = name.starts_with("model.rotary_emb:") || name.starts_with("model:mask");
    if (table && value.exact.dim() > 2 && batch != rows && batch > 1 &&
        value.exact.size(0) == batch && name != "model:mask_cross_kv") {
      std::vector<std::int64_t> times(static_cast<std::size_t>(value.exact.dim()), 1);
      times[0] = rows / batch;
      value.exact = value.exact.repeat(times);
    }
    const Types types = types_of(scalar_type(pass.rounding.run));
    if (const double lost = lost_by_storing(plain(name), *given, types); lost > 0) {
      value.same_type = as_before_storing(value.exact, lost);
      pass.stored_coarsely = true;
    }
    pass.basis.push_back(name);
  } else {
    const Op* op = is_past(name) ? nullptr : net_.find(name);
    if (op == nullptr) return bad_input(name, "was not captured, and nothing captured leads to it");
    PS_TRY(value, run_op(*op, pass, pass.wrong == nullptr || pass.wrong_same != nullptr));
  }
  pass.known.emplace(name, value);
  return value;
}

namespace {

// Whether an op computes nothing that rounds, but for what it is given.
bool only_stores(const std::string& kind) { return kind == "cache_append"; }

}  // namespace

// The op that a missing value comes from, if all that stands between it and what was captured is a
// rotation, the norm before it and a cache.
std::optional<RotationNoise> StepByOps::noise_of(const Point& name, const Pass& pass) {
  const auto given = [&](const Point& p) { return pass.lookup(p).has_value(); };
  const Op* op = given(name) ? nullptr : net_.find(name);
  if (given(name)) return RotationNoise();
  const std::int64_t prefix =
      op != nullptr && only_stores(op->kind) ? net_.context().config->prefix_tokens : 0;
  while (op != nullptr && only_stores(op->kind)) {
    if (given(op->inputs[0])) return RotationNoise();
    op = net_.find(op->inputs[0]);
  }
  if (op == nullptr || op->kind != "rope" || op->inputs.size() != 3) return std::nullopt;
  const bool normed = !given(op->inputs[0]);
  if (normed) {
    const Op* norm = net_.find(op->inputs[0]);
    if (norm == nullptr || norm->kind != "rms_norm" || !given(norm->inputs[0])) return std::nullopt;
  }
  Pass copy = pass;
  const Result<Value> value = value_of(name, copy);
  if (!value.ok()) return std::nullopt;
  const at::Tensor& x = value->exact;
  at::Tensor angles = at::zeros({x.size(-1)}, at::kDouble);
  const Point frequencies = "model.rotary_emb:inv_freq";
  if (!given(op->inputs[1]) || !given(op->inputs[2])) {
    const Result<Value> f = value_of(frequencies, copy);
    if (!f.ok()) return std::nullopt;
    const at::Tensor last = rope_positions(net_.context()).to(at::kDouble).abs().amax();
    angles = at::cat({f->exact, f->exact}).to(at::kDouble).abs() * last;
  }
  RotationNoise noise = rotation_noise(x, normed, angles, units_of(pass.rounding));
  if (prefix > 0) noise.variance.slice(-2, 0, prefix).zero_();  // never rotated
  return noise;
}

// Where only scores and probabilities are missing on the way to a context, or queries and keys but
// for their projections too, their roundings can be followed; undefined where more is missing.
// Lists of blocks must be given: another list is no rounding.
at::Tensor StepByOps::context_bound_of(const Op& context, Pass& pass, const Tensors& in,
                                       const at::Tensor& exact, at::Tensor bound) {
  const auto given = [&](const Point& name) { return pass.lookup(name).has_value(); };
  const Op* probs = context.inputs.size() == 2 ? net_.find(context.inputs[0]) : nullptr;
  if (probs == nullptr || given(probs->point)) return bound;
  const bool sparse = probs->kind == "sparse_probs" && given(probs->inputs[3]);
  const Op* scores = sparse ? probs : net_.find(probs->inputs[0]);
  if (scores == nullptr || (!sparse && scores->kind != "scores")) return bound;
  const Point &q = scores->inputs[0], &k = scores->inputs[1];
  const Op* values = given(context.inputs[1]) ? nullptr : net_.find(context.inputs[1]);
  if (values != nullptr && (!only_stores(values->kind) || !given(values->inputs[0]))) return bound;
  const std::optional<RotationNoise> of_q = noise_of(q, pass), of_k = noise_of(k, pass);
  const Result<Value> queries = value_of(q, pass), keys = value_of(k, pass);
  if (!of_q || !of_k || !queries.ok() || !keys.ok()) return bound;
  try {
    const ModelConfig& config = *net_.context().config;
    at::Tensor s;
    if (sparse) {
      s = scaled_scores(queries->exact, keys->exact,
                        1.0 / std::sqrt(static_cast<double>(config.head_dim)));
    } else {
      const Result<Value> value = value_of(probs->inputs[0], pass);
      if (!value.ok()) return bound;
      s = value->exact;
    }
    const at::Tensor derived = attention_bound(config, queries->exact, keys->exact, in[1], s, in[0],
                                               exact, units_of(pass.rounding), *of_q, *of_k);
    if (!derived.defined()) return bound;
    // What an equal chain happens to err by says nothing where a few roundings decide: a row
    // between two near keys is moved by one number alone. Where queries were captured both hold.
    const bool noisy = of_q->variance.defined() || of_k->variance.defined();
    return noisy ? derived : at::minimum(bound, derived);
  } catch (const std::exception&) {  // shapes of a trace that no right run has
    return bound;
  }
}

// Scores that were not captured err, and a block whose score is within it of where the row was cut
// may be taken or not.
at::Tensor StepByOps::ties_of(const Op& lists, Pass& pass, const Tensors& in,
                              const at::Tensor& exact, const RoundingUnits& units) {
  const Result<Value> scores = value_of(lists.inputs[0], pass);
  if (!scores.ok() || !scores->same_type.defined()) return at::zeros_like(exact, at::kDouble);
  const SparseAttention sparse = *sparse_attention(*net_.context().config);
  const auto log_of = [&](const at::Tensor& x) {
    const at::Tensor wide = x.to(at::kDouble);
    return sparse.walks() ? wide : at::nan_to_num(wide.log(), 0.0, 0.0, 0.0);
  };
  const at::Tensor slack = chain_bound(log_of(scores->exact), log_of(scores->same_type), units);
  return near_ties(sparse, net_.context(), in, exact, slack);
}

// An op that is done right on given inputs has a bound of its own; a chain, and an op done wrong,
// have the error of the same ops in the candidate's type, and the last op's own bound where it can
// be derived.
Result<void> StepByOps::run_last(const Op& right, Pass& pass, at::Tensor& exact,
                                 at::Tensor& bound) {
  const bool wrong = pass.wrong != nullptr && pass.wrong->contains(right.point);
  const Op& op = wrong ? pass.wrong->at(right.point) : right;
  Tensors in, w;
  bool chained = wrong;
  for (const Point& name : op.inputs) {
    PS_TRY(const Value value, value_of(name, pass));
    in.push_back(value.exact);
    chained = chained || value.same_type.defined();
  }
  for (const std::string& name : op.weights) w.push_back(engine_.weights_.get(name));
  RoundingUnits units = units_of(pass.rounding);
  units.ranks = engine_.options_.candidate_ranks;
  if (chained) {
    PS_TRY(const Value value, run_op(right, pass, true));
    exact = value.exact;
    bound = value.same_type.is_floating_point() ? chain_bound(exact, value.same_type, units)
                                                : at::zeros_like(exact, at::kDouble);
  } else {
    exact = op.run(in, w);
    pass.ran.push_back(&right);
    bound = at::zeros_like(exact, at::kDouble);
  }
  if (!exact.is_floating_point()) return {};
  if (chained && !wrong && op.kind == "context") {
    bound = context_bound_of(op, pass, in, exact, bound);
  }
  if (chained && op.kind == "block_mask") {
    bound = bound + ties_of(op, pass, in, exact, units);
  }
  const bool derivable = op.inputs == right.inputs && op.weights == right.weights;
  try {
    if (derivable)
      bound = bound + bound_of(op, net_.context(), in, w, exact, units).expand_as(exact);
  } catch (const std::exception&) {  // a shape that the right op never has
    if (!wrong) throw;
  }
  if (wrong) bound = bound + exact.abs() * (2.02 * units.result) + units.floor;
  return {};
}

Result<Replayed> StepByOps::replay(std::string_view point, const PointLookup& lookup,
                                   const Rounding& rounding) {
  const Op* op = net_.find(point);
  if (op == nullptr) {
    return bad_input(std::string(point), "no op of this model writes such a point");
  }
  try {
    const at::NoGradGuard no_grad;
    Pass pass{lookup, rounding, {}, {}, {}};
    at::Tensor exact, bound;
    PS_TRY_VOID(run_last(*op, pass, exact, bound));
    Replayed out;
    if (pass.ran.size() == 1 && !pass.stored_coarsely) {
      if (auto broken =
              broken_law(*op, net_, lookup, rounding, *engine_.checkpoint_, exact, bound)) {
        exact = broken->value;
        bound = broken->bound;
        out.law = std::move(broken->words);
      }
    }
    out.value = Tensor::copy_of(view_of(exact.contiguous()));
    out.bound = Tensor::copy_of(view_of(bound.contiguous()));
    out.basis = std::move(pass.basis);
    out.chain = static_cast<std::int64_t>(pass.ran.size());
    return out;
  } catch (const std::exception& e) {
    Error error = torch_error(std::string(point), e);
    // Inputs of a shape that the op cannot take come from the trace, not from the machine.
    if (error.what.find("out of memory") == std::string::npos) error.kind = Error::Kind::kInput;
    return error;
  }
}

void StepByOps::advance() {
  const Op& op = net_.ops()[done_++];
  Tensors in, w;
  for (const Point& name : op.inputs) {
    in.push_back(is_past(name) ? engine_.cache_.at(plain(name)) : points_.at(name));
  }
  for (const std::string& name : op.weights) w.push_back(engine_.weights_.get(name));
  const at::Tensor value = op.run(in, w);
  points_[op.point] = value;
  if (is_cache(op.point)) next_cache_[op.point] = value;
  for (const Point& name : op.inputs) {
    if (--readers_left_[name] == 0 && asked_[name]) points_.erase(name);
  }
}

Result<Tensor> StepByOps::own(std::string_view point) {
  try {
    const at::NoGradGuard no_grad;
    const std::string name(point);
    while (!points_.contains(name) && done_ < net_.ops().size()) advance();
    const auto it = points_.find(name);
    if (it == points_.end()) {
      return bad_input(name, "no op of this model writes such a point, or it was asked for before");
    }
    Tensor out = Tensor::copy_of(view_of(it->second.contiguous()));
    asked_[name] = true;
    if (readers_left_[name] == 0) points_.erase(it);
    return out;
  } catch (const std::exception& e) {
    return torch_error("reference " + std::string(point), e);
  }
}

Result<void> StepByOps::finish() {
  if (finished_) return {};
  try {
    const at::NoGradGuard no_grad;
    while (done_ < net_.ops().size()) advance();
  } catch (const std::exception& e) {
    return torch_error("reference step", e);
  }
  points_.clear();
  engine_.cache_ = std::move(next_cache_);
  engine_.past_ += inputs_.length;
  engine_.batch_ = inputs_.batch;
  engine_.earlier_.push_back(inputs_);
  finished_ = true;
  return {};
}

Result<std::unique_ptr<ReferenceStep>> ReferenceEngine::step(const StepInputs& inputs) {
  PS_TRY_VOID(check_inputs(inputs, config_, past_, batch_));
  try {
    return std::unique_ptr<ReferenceStep>(std::make_unique<StepByOps>(*this, inputs));
  } catch (const std::exception& e) {
    return torch_error("reference step", e);
  }
}

}  // namespace ps::reference
