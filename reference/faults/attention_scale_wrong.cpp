#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  const ModelConfig& c = scene.config();
  std::vector<Point> points = scene.ops("scores");
  // Block-sparse attention has its scores inside one op: another scale is another query.
  const bool sparse = points.empty();
  if (sparse) points = scene.ops("sparse_probs");
  if (points.empty()) return;
  const double d = static_cast<double>(c.head_dim), hidden = static_cast<double>(c.hidden_size);
  const double right = 1.0 / std::sqrt(d);
  // Of what the op gives, so that it holds for scores over all replicas too.
  const auto with = [right, sparse](const std::vector<Point>& where, double scale) {
    return wrap(where, [times = scale / right, sparse](const Op& good, const Tensors& in,
                                                       const Tensors& w) {
      if (!sparse) return good.run(in, w) * times;
      Tensors scaled = in;
      scaled[0] = in[0] * times;
      return good.run(scaled, w);
    });
  };
  const struct {
    double scale;
    const char* words;
  } kWays[] = {{1.0, "not scaled"},
               {1.0 / d, "1 / head size, or scaled twice"},
               {1.0 / std::sqrt(hidden), "1 / sqrt(hidden size)"},
               {1.0 / hidden, "1 / hidden size"}};
  for (const auto& way : kWays) {
    if (std::fabs(way.scale / right - 1.0) < 1e-9) continue;
    for (const Scope& scope : scopes(points)) {
      out.push_back({joined(way.words, scope.words),
                     {{"scale", number(way.scale)}, {"expected", number(right)}},
                     with(scope.points, way.scale)});
    }
  }
  if (!scene.solving()) return;
  const Fit fit = fit_number(scene, {right, right * 0.5, right * 2.0}, false,
                             [&](double scale) { return with(points, scale); });
  if (std::isfinite(fit.residual) && std::fabs(fit.value / right - 1.0) > 1e-4) {
    out.push_back({"",
                   {{"scale", number(fit.value)}, {"expected", number(right)}},
                   with(points, fit.value),
                   1});
  }
}

}  // namespace

extern const FaultSpec attention_scale_wrong;
const FaultSpec attention_scale_wrong = {
    {"attention-scale-wrong", "attention", 4,
     "the attention scores are scaled by another factor than 1 / sqrt(head size)",
     "multiply q k^T by head_dim^-0.5, once", "needs a query that sees more than one key", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
