#include "reference/step.h"

#include <algorithm>

#include "reference/bridge.h"
#include "reference/rounding_law.h"

namespace ps::reference {

namespace {

std::string plain(const std::string& name) { return is_past(name) ? name.substr(5) : name; }

bool is_cache(std::string_view point) {
  return point.ends_with(":k_cache") || point.ends_with(":v_cache") ||
         point.ends_with(":q_mean_cache");
}

}  // namespace

// A mask of numbers is an additive one (what is hidden is far below zero, or minus infinity), or
// ones where it may attend.
at::Tensor from_capture(const std::string& point, const TensorView& view, const Types& types) {
  const at::Tensor value = borrow(view);
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
    pass.basis.push_back(name);
  } else {
    const Op* op = is_past(name) ? nullptr : net_.find(name);
    if (op == nullptr) return bad_input(name, "was not captured, and nothing captured leads to it");
    PS_TRY(value, run_op(*op, pass, pass.wrong == nullptr || pass.wrong_same != nullptr));
  }
  pass.known.emplace(name, value);
  return value;
}

// Where only scores and probabilities are missing on the way to a context, their roundings can be
// followed; undefined where more is missing.
at::Tensor StepByOps::context_bound_of(const Op& context, Pass& pass, const Tensors& in,
                                       const at::Tensor& exact, const RoundingUnits& units) {
  const Op* probs = context.inputs.size() == 2 ? net_.find(context.inputs[0]) : nullptr;
  const Op* scores =
      probs == nullptr || probs->inputs.empty() ? nullptr : net_.find(probs->inputs[0]);
  if (scores == nullptr || scores->kind != "scores" || scores->inputs.size() != 2) return {};
  const auto given = [&](const Point& name) { return pass.lookup(name).has_value(); };
  if (given(probs->point) || !given(scores->inputs[0]) || !given(scores->inputs[1]) ||
      !given(context.inputs[1])) {
    return {};
  }
  Tensors values;
  for (const Point* name : {&scores->inputs[0], &scores->inputs[1], &probs->inputs[0]}) {
    const Result<Value> value = value_of(*name, pass);
    if (!value.ok()) return {};
    values.push_back(value->exact);
  }
  try {
    return attention_bound(*net_.context().config, values[0], values[1], in[1], values[2], in[0],
                           exact, units);
  } catch (const std::exception&) {  // shapes of a trace that no right run has
    return {};
  }
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
    const at::Tensor derived = context_bound_of(op, pass, in, exact, units);
    if (derived.defined()) bound = at::minimum(bound, derived);
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
    if (pass.ran.size() == 1) {
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
