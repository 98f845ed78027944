#include "reference/gradient_runs.h"

#include <algorithm>

#include "reference/bounds.h"
#include "reference/bridge.h"
#include "reference/engine.h"

namespace ps::reference {

namespace {

// A pass over the whole prompt. `seen` looks at every value, and may put another in its place.
template <class Seen>
at::Tensor passed(const Net& net, Weights& weights, const Seen& seen) {
  std::map<std::string, at::Tensor> points;
  at::Tensor last;
  for (const Op& op : net.ops()) {
    Tensors in, w;
    for (const Point& name : op.inputs) in.push_back(points.at(name));
    for (const std::string& name : op.weights) w.push_back(weights.get(name));
    last = seen(op, op.run(in, w));
    points[op.point] = last;
  }
  return last;
}

Result<void> fits(const StepInputs& inputs, const ModelConfig& config, GradientLoss loss,
                  bool given) {
  PS_TRY_VOID(check_inputs(inputs, config, 0, 0));
  if (loss != GradientLoss::kSumOfLogits && !given && inputs.length < 2) {
    return bad_input("input_ids", "a next-token loss needs two tokens", "length 2 or more",
                     std::to_string(inputs.length));
  }
  return {};
}

}  // namespace

at::Tensor loss_of(const at::Tensor& logits, const StepInputs& inputs, GradientLoss loss,
                   at::ScalarType wide) {
  if (loss == GradientLoss::kSumOfLogits) return logits.to(wide).sum();
  const at::Tensor ids = from_int64(inputs.input_ids, {inputs.batch, inputs.length});
  const at::Tensor log_p = at::log_softmax(logits.slice(1, 0, -1).to(wide), -1);
  const at::Tensor target = ids.slice(1, 1).unsqueeze(-1);
  const at::Tensor nll = log_p.gather(-1, target).squeeze(-1).neg();
  if (loss == GradientLoss::kNextTokenAll) return nll.mean();
  at::Tensor counts = at::ones(nll.sizes(), at::kBool);
  if (inputs.attention_mask) {
    const at::Tensor real = from_int64(*inputs.attention_mask, {inputs.batch, inputs.length}).ne(0);
    counts = real.slice(1, 0, -1).logical_and(real.slice(1, 1));
  }
  const at::Tensor sum = nll.masked_fill(counts.logical_not(), 0.0).sum();
  return loss == GradientLoss::kNextTokenSum ? sum : sum / counts.sum();
}

GradientRuns::GradientRuns(const Model& model, const ReferenceOptions& options, DType run)
    : config_(model.config), checkpoint_(model.checkpoint), options_(options), run_(run) {
  if (options.threads > 0) at::set_num_threads(options.threads);
}

StepContext GradientRuns::context(const StepInputs& inputs, at::ScalarType type) const {
  StepContext c;
  c.config = &config_;
  c.inputs = &inputs;
  c.types = types_of(type);
  c.empty_rows = options_.empty_rows;
  c.pinned_rope = options_.pinned_rope ? &*options_.pinned_rope : nullptr;
  return c;
}

Result<std::vector<OpInfo>> GradientRuns::ops(const StepInputs& inputs) {
  PS_TRY_VOID(check_inputs(inputs, config_, 0, 0));
  Net net(context(inputs, scalar_type(options_.dtype)));
  build(net);
  std::vector<OpInfo> out;
  for (const Op& op : net.ops()) out.push_back({op.point, op.kind, op.inputs, op.weights});
  return out;
}

GradientRuns::Named GradientRuns::backward(const StepInputs& inputs, const GradientRequest& request,
                                           at::ScalarType type) {
  const at::AutoGradMode on(true);
  const auto through = options_.weights_through
                           ? std::optional(scalar_type(*options_.weights_through))
                           : std::nullopt;
  Weights leaves(checkpoint_, type, through);
  leaves.track_gradients();
  Net net(context(inputs, type));
  build(net);
  Named kept;
  const at::Tensor logits = passed(net, leaves, [&](const Op& op, at::Tensor value) {
    const auto& cuts = request.cuts;
    if (std::find(cuts.begin(), cuts.end(), op.point) != cuts.end()) value = value.detach();
    const bool wanted = request.wants && request.wants(op.point);
    if (wanted && value.requires_grad()) {
      value.retain_grad();
      kept[op.point] = value;
    }
    return value;
  });
  if (request.cotangent) {
    const at::Tensor g = borrow(*request.cotangent).to(logits.scalar_type());
    if (logits.requires_grad()) logits.backward(g.reshape_as(logits));
  } else {
    const at::Tensor value = loss_of(logits, inputs, request.loss, net.context().types.island);
    if (value.requires_grad()) value.backward();
  }
  Named out;
  for (const auto& [name, leaf] : leaves.kept()) {
    if (leaf.grad().defined()) out[name] = leaf.grad();
  }
  for (const auto& [name, value] : kept) {
    if (value.grad().defined()) out[name] = value.grad();
  }
  return out;
}

Result<std::map<std::string, Gradient>> GradientRuns::gradients(const StepInputs& inputs,
                                                                const GradientRequest& request) {
  PS_TRY_VOID(fits(inputs, config_, request.loss, request.cotangent.has_value()));
  try {
    const Named exact = backward(inputs, request, scalar_type(options_.dtype));
    const Named same = backward(inputs, request, scalar_type(run_));
    Rounding rounding;
    rounding.run = run_;
    rounding.captured = run_;
    const RoundingUnits units = units_of(rounding);
    const at::NoGradGuard none;
    std::map<std::string, Gradient> out;
    for (const auto& [name, g] : exact) {
      const at::Tensor value = g.to(at::kDouble).contiguous();
      const auto again = same.find(name);
      const at::Tensor other =
          again == same.end() ? at::zeros_like(value) : again->second.to(at::kDouble);
      // In float64 the second pass is the first one again, and says nothing of other orders of
      // sums.
      const double more = run_ == DType::kF64 ? 16.0 : 1.0;
      const at::Tensor bound = (gradient_bound(value, other, units) * more).contiguous();
      out.emplace(name, Gradient{Tensor::copy_of(view_of(value)), Tensor::copy_of(view_of(bound))});
    }
    return out;
  } catch (const std::exception& e) {
    return torch_error("reference gradients", e);
  }
}

Result<double> GradientRuns::loss(const StepInputs& inputs, GradientLoss loss,
                                  const std::string& parameter, const TensorView& nudge) {
  PS_TRY_VOID(fits(inputs, config_, loss, false));
  try {
    const at::NoGradGuard none;
    const at::ScalarType type = scalar_type(options_.dtype);
    Weights weights(checkpoint_, type);
    weights.track_gradients();  // keeps one copy of each, which may be changed
    weights.get(parameter).data().add_(borrow(nudge).to(type));
    Net net(context(inputs, type));
    build(net);
    const at::Tensor logits =
        passed(net, weights, [](const Op&, const at::Tensor& value) { return value; });
    return loss_of(logits, inputs, loss, net.context().types.island).item<double>();
  } catch (const std::exception& e) {
    return torch_error("reference loss", e);
  }
}

// Taps every point as it comes, then the gradients: of parameters, and of the points for which the
// tap wants grad/POINT.
Result<void> ReferenceEngine::gradients(const StepInputs& inputs, Loss loss, Tap& tap) {
  const GradientLoss which =
      loss == Loss::kNextToken ? GradientLoss::kNextToken : GradientLoss::kSumOfLogits;
  PS_TRY_VOID(fits(inputs, config_, which, false));
  try {
    const at::AutoGradMode on(true);
    Weights leaves(checkpoint_, types_.model);
    leaves.track_gradients();
    Net net(context(inputs, 0, true));
    build(net);
    std::map<std::string, at::Tensor> kept;
    const at::Tensor logits = passed(net, leaves, [&](const Op& op, const at::Tensor& value) {
      if (tap.wants(op.point)) tap.take(op.point, view_of(value.detach().contiguous()));
      if (value.requires_grad() && tap.wants("grad/" + op.point)) {
        value.retain_grad();
        kept[op.point] = value;
      }
      return value;
    });
    loss_of(logits, inputs, which, types_.island).backward();
    const auto hand_out = [&](const std::string& name, const at::Tensor& of) {
      const at::Tensor& g = of.grad();
      if (!g.defined() || !tap.wants("grad/" + name)) return;  // absent = none reached it
      tap.take("grad/" + name, view_of(g.contiguous()));
    };
    for (const auto& [name, leaf] : leaves.kept()) hand_out(name, leaf);
    for (const auto& [name, value] : kept) hand_out(name, value);
  } catch (const std::exception& e) {
    return torch_error("reference gradients", e);
  }
  return {};
}

}  // namespace ps::reference
