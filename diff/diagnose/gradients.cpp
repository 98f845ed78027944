#include "diff/diagnose/gradients.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "core/points.h"
#include "core/same_bytes.h"
#include "diff/compare/compare.h"
#include "diff/isolate/judge.h"
#include "diff/mask/step_mask.h"
#include "diff/run/record.h"

namespace ps {

namespace {

constexpr std::string_view kGrad = "grad/";

bool all_zero(const TensorView& view) {
  for (std::int64_t i = 0; i < view.count(); ++i) {
    if (value_at(view, i) != 0) return false;
  }
  return true;
}

struct Products {
  double both = 0, mine = 0, truth = 0;
};
Products products(const TensorView& mine, const TensorView& truth) {
  Products p;
  for (std::int64_t i = 0; i < truth.count(); ++i) {
    const double a = value_at(mine, i), b = value_at(truth, i);
    if (!std::isfinite(a)) continue;
    p.both += a * b, p.mine += a * a, p.truth += b * b;
  }
  return p;
}

// The truth and its bound, times a number.
Gradient times(const Gradient& g, double factor) {
  Gradient out{Tensor::copy_of(g.value.view()), Tensor::copy_of(g.bound.view())};
  for (double& x : out.value.as<double>()) x *= factor;
  for (double& x : out.bound.as<double>()) x *= std::fabs(factor);
  return out;
}

void judge_one(const TensorView& mine, const Gradient& right, double factor, JudgedGradient& out) {
  using State = JudgedGradient::State;
  out.value = mine;
  out.shape = mine.shape;
  out.dtype = torch_name(mine.dtype);
  if (mine.shape != right.value.shape()) {
    out.state = State::kShape;
    return;
  }
  const bool truth_is_zero = all_zero(right.value.view());
  if (!truth_is_zero && all_zero(mine)) {
    out.state = State::kZero;
    return;
  }
  Gradient scaled = times(right, factor);
  // A gradient may be stored more coarsely than it was computed.
  const double u = unit_roundoff(mine.dtype);
  for (std::int64_t i = 0; i < mine.count(); ++i) {
    const auto at = static_cast<std::size_t>(i);
    scaled.bound.as<double>()[at] += 1.01 * u * std::fabs(scaled.value.as<double>()[at]) + 1e-300;
  }
  CompareOptions how;
  how.bound = BoundSpec::per_cell(scaled.bound.view());
  const Comparison c = compare(mine, scaled.value.view(), how);
  out.ratio = c.ratio, out.max_abs = c.max_abs, out.rel_l2 = c.rel_l2, out.cosine = c.cosine;
  out.first_wrong = c.first_wrong();
  out.state = c.ok() ? State::kOk : State::kWrong;
  const Products p = products(mine, right.value.view());
  if (p.truth > 0) {
    out.factor = p.both / p.truth;
    const double rest = std::max(0.0, p.mine - p.both * p.both / p.truth);
    out.residual = p.mine > 0 ? std::sqrt(rest / p.mine) : 0;
  }
}

PointStatus status_of(JudgedGradient::State state) {
  switch (state) {
    case JudgedGradient::State::kOk:
      return PointStatus::kOk;
    case JudgedGradient::State::kMissing:
      return PointStatus::kMissing;
    case JudgedGradient::State::kShape:
      return PointStatus::kShape;
    default:
      return PointStatus::kDiverged;
  }
}

// How well all gradients together point where the reference's do.
double alignment(const TraceStep& step, const GradientMap& truth) {
  Products all;
  for (const auto& [name, gradient] : truth) {
    const TensorView* mine = step.tensors->find(std::string(kGrad) + name);
    if (mine == nullptr || mine->shape != gradient.value.shape()) continue;
    const Products p = products(*mine, gradient.value.view());
    // Each tensor counts the same, whatever its size.
    if (p.mine > 0 && p.truth > 0) all.both += p.both / std::sqrt(p.mine * p.truth);
    all.truth += 1;
  }
  return all.truth > 0 ? all.both / all.truth : 0;
}

// Logits may be those of the last position alone; then no gradient reached the others.
bool of_last_token(const TensorView& value, const Shape& whole) {
  return value.shape.size() == 3 && whole.size() == 3 && whole[1] > 1 &&
         value.shape == Shape{whole[0], 1, whole[2]};
}

// grad/lm_head with a row for each position.
Tensor for_all_positions(const TensorView& last, const Shape& whole) {
  Tensor out(last.dtype, whole);
  const std::size_t row = last.bytes.size() / static_cast<std::size_t>(whole[0]);
  const std::size_t all = row * static_cast<std::size_t>(whole[1]);
  for (std::size_t b = 0; b < static_cast<std::size_t>(whole[0]); ++b) {
    std::copy_n(last.bytes.data() + b * row, row, out.bytes().data() + (b + 1) * all - row);
  }
  return out;
}

// The truth as the trace keeps it: of the last position, where it is zero at all others.
std::optional<Gradient> last_of(const Gradient& g) {
  Tensor last = last_token(g.value.view());
  if (!same_bytes(for_all_positions(last.view(), g.value.shape()).view(), g.value.view())) {
    return std::nullopt;
  }
  return Gradient{std::move(last), last_token(g.bound.view())};
}

struct Chosen {
  GradientMap truth;
  GradientRequest request;
  std::string words;
  Tensor cotangent;  // what the request's own shows, where the trace's had to be filled up
};

// The loss that the trace's gradients are of.
Result<Chosen> choose_loss(const TraceStep& step, const ModelConfig& config,
                           const StepInputs& inputs, GradientReference& reference,
                           const GradientOptions& options) {
  Chosen out;
  out.request.wants = [&](std::string_view point) {
    return step.tensors->find(std::string(kGrad) + std::string(point)) != nullptr;
  };
  const TensorView* given = step.tensors->find("grad/lm_head");
  const Shape whole = {inputs.batch, inputs.length, config.vocab_size};
  if (given != nullptr && !options.loss) {
    if (of_last_token(*given, whole)) {
      out.cotangent = for_all_positions(*given, whole);
      out.request.cotangent = out.cotangent.view();
    } else if (given->count() == count_of(whole)) {
      out.request.cotangent = *given;
    } else {
      return bad_input(step.tensors->where() + ": grad/lm_head", "is no gradient of the logits",
                       to_string(whole) + " or " + to_string(Shape{whole[0], 1, whole[2]}),
                       to_string(given->shape));
    }
    out.words = "from grad/lm_head of the trace";
    PS_TRY(out.truth, reference.gradients(inputs, out.request));
    return out;
  }
  if (options.loss) {
    out.request.loss = *options.loss;
    out.words = to_string(*options.loss);
    PS_TRY(out.truth, reference.gradients(inputs, out.request));
    return out;
  }
  const TensorView* logits = step.tensors->find("lm_head");
  if (logits != nullptr && of_last_token(*logits, whole)) {
    return bad_input(step.tensors->where() + ": lm_head",
                     "holds the last position alone, and no known loss is of that",
                     "grad/lm_head too, or --loss", to_string(logits->shape));
  }
  double best = -2;
  for (const GradientLoss loss :
       {GradientLoss::kNextToken, GradientLoss::kNextTokenAll, GradientLoss::kSumOfLogits}) {
    if (loss != GradientLoss::kSumOfLogits && inputs.length < 2) continue;
    GradientRequest request = out.request;
    request.loss = loss;
    PS_TRY(GradientMap truth, reference.gradients(inputs, request));
    const double fits = alignment(step, truth);
    if (fits <= best + 1e-6) continue;
    best = fits;
    out.truth = std::move(truth);
    out.request.loss = loss;
    out.words = std::string(to_string(loss)) + ", the loss that fits best";
  }
  return out;
}

}  // namespace

bool has_gradients(const Trace& trace) {
  for (const TraceStep& step : trace.steps()) {
    for (const auto& entry : step.tensors->entries()) {
      if (entry.name.starts_with(kGrad)) return true;
    }
  }
  return false;
}

std::vector<JudgedGradient> compare_gradients(const TraceStep& step, const ModelConfig& config,
                                              const GradientMap& truth, double factor) {
  std::set<std::string> parameters;
  for (const WeightSpec& spec : expected_weights(config)) {
    if (count_of(spec.shape) > 0) parameters.insert(spec.name);
  }
  std::vector<JudgedGradient> out;
  for (const auto& [name, gradient] : truth) {
    JudgedGradient judged;
    judged.name = name;
    judged.parameter = parameters.contains(name);
    const TensorView* mine = step.tensors->find(std::string(kGrad) + name);
    if (mine != nullptr) {
      const bool last = name == "lm_head" && of_last_token(*mine, gradient.value.shape());
      const std::optional<Gradient> kept = last ? last_of(gradient) : std::nullopt;
      judge_one(*mine, kept ? *kept : gradient, factor, judged);
    } else if (judged.parameter && !all_zero(gradient.value.view())) {
      judged.state = JudgedGradient::State::kMissing;
      judged.shape = gradient.value.shape();
    } else {
      continue;
    }
    out.push_back(std::move(judged));
  }
  return out;
}

Result<void> judge_gradients(const Trace& trace, const ModelConfig& config,
                             GradientReference& reference, const GradientOptions& options,
                             Report& report) {
  std::int64_t past = 0;
  for (const TraceStep& step : trace.steps()) {
    if (step.rank != 0 || step.op != StepOp::kForward) continue;
    PS_TRY(const StepInputs inputs, mask::step_inputs_with_mask(step, config, past));
    bool any = false;
    for (const auto& entry : step.tensors->entries()) any = any || entry.name.starts_with(kGrad);
    const bool fresh = past == 0;
    if (step.use_cache) past += inputs.length;
    if (!any) continue;
    if (!fresh) {
      return bad_input(trace.path().string(), "gradients of a step behind a cache",
                       "of one pass over the whole prompt", "step " + std::to_string(step.step));
    }
    PS_TRY(const Chosen chosen, choose_loss(step, config, inputs, reference, options));
    const std::vector<JudgedGradient> judged = compare_gradients(step, config, chosen.truth, 1.0);
    for (const JudgedGradient& g : judged) {
      PointRow row;
      row.step = step.step, row.rank = step.rank;
      row.point = std::string(kGrad) + g.name;
      row.shape = g.shape, row.dtype = g.dtype;
      row.status = status_of(g.state);
      const bool on_purpose = std::any_of(options.frozen.begin(), options.frozen.end(),
                                          [&](const std::string& p) { return matches(p, g.name); });
      const bool none =
          g.state == JudgedGradient::State::kMissing || g.state == JudgedGradient::State::kZero;
      if (on_purpose && none) row.status = PointStatus::kIgnored;
      row.max_abs = g.max_abs, row.rel_l2 = g.rel_l2, row.ratio = g.ratio;
      row.compared = count_of(g.shape);
      report.points.push_back(std::move(row));
    }
    const GradientScene scene{step,           config,       inputs, reference,
                              chosen.request, chosen.truth, options};
    std::vector<Finding> causes = gradient_causes(scene, judged);
    for (Finding& f : causes) {
      f.step = step.step, f.rank = step.rank;
      if (f.severity == Severity::kError && !report.first_divergence) {
        report.first_divergence = {step.step, step.rank, f.point, f.where};
        report.verdict = Verdict::kDiverged;
      }
      report.findings.push_back(std::move(f));
    }
    report.environment.emplace_back("gradients_of", json_string(chosen.words));
  }
  return {};
}

}  // namespace ps
