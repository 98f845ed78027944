#include "reference/fault_tools.h"
#include "reference/ops/blocks.h"

namespace ps::reference::faults {

namespace {

// The norm as the op does it, with another epsilon; heads one by one where the weight is a head's.
at::Tensor norm(const at::Tensor& x, const at::Tensor& w, double eps, const Types& types) {
  if (w.size(0) == x.size(-1)) return rms_norm(x, w, eps, types);
  return rms_norm(x.reshape({x.size(0), x.size(1), -1, w.size(0)}), w, eps, types);
}

void propose(Scene& scene, Proposals& out) {
  const std::vector<Point> points = scene.ops("rms_norm");
  if (points.empty()) return;
  const auto with = [](const std::vector<Point>& where, double eps) {
    return [where, eps](const Net& net, Overrides& overrides) {
      const Types types = net.context().types;
      wrap(where, [=](const Op&, const Tensors& in, const Tensors& w) {
        return norm(in[0], w[0], eps, types);
      })(net, overrides);
    };
  };
  const double right = scene.config().rms_norm_eps;
  for (const double eps : {1e-5, 1e-6, 1e-8, 1e-12, 1e-3, 1e-4, 0.0}) {
    if (eps == right) continue;
    for (const Scope& scope : scopes(points)) {
      out.push_back({scope.words,
                     {{"eps", number(eps)}, {"expected", number(right)}},
                     with(scope.points, eps)});
    }
  }
  if (!scene.solving()) return;
  const Fit fit = fit_number(scene, {1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1}, false,
                             [&](double eps) { return Edit(with(points, eps)); });
  if (std::isfinite(fit.residual) && fit.value > 0 && fit.value < 1.0) {
    out.push_back({"",
                   {{"eps", number(fit.value)}, {"expected", number(right)}},
                   with(points, fit.value),
                   1});
  }
}

}  // namespace

extern const FaultSpec norm_eps_wrong;
const FaultSpec norm_eps_wrong = {
    {"norm-eps-wrong", "norm", 4, "the norm adds another epsilon than the config's rms_norm_eps",
     "read rms_norm_eps from the config", "needs rows whose mean square is not far above epsilon",
     false},
    any_model,
    propose};

}  // namespace ps::reference::faults
