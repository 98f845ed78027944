#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

// Far from 1, and not nothing at all.
bool is_scale(double factor) {
  const double size = std::fabs(factor);
  return std::isfinite(factor) && size > 1e-7 && (size >= 8.0 || size <= 0.125);
}

// Somewhere on the way: each module's results, or the new keys or values, by one number.
void propose_on_the_way(Scene& scene, Proposals& out) {
  constexpr double kLargeError = 0.05;  // a scale of 8 leaves more
  if (distance(scene, scene.expected()) <
      kLargeError * (scene.expected() * scene.counts()).norm().item<double>()) {
    return;
  }
  std::map<std::string, std::vector<Point>> modules;
  for (const char* kind : {"linear", "linear_of_silu", "cache_append"}) {
    for (const Point& point : scene.ops(kind)) {
      if (point != scene.point()) modules[module_words(point)].push_back(point);
    }
  }
  const std::int64_t fresh = scene.context().length();
  for (const auto& [words, points] : modules) {
    const bool cached = words.ends_with("_cache");
    const auto scaled = [&points = points, cached, fresh](double factor) {
      return wrap(points, [=](const Op& good, const Tensors& in, const Tensors& w) {
        const at::Tensor y = good.run(in, w);
        if (!cached) return w.size() > 1 ? (y - w[1]) * factor + w[1] : y * factor;
        const std::int64_t old = y.size(2) - fresh;
        return at::cat({y.slice(2, 0, old), y.slice(2, old) * factor}, 2);
      });
    };
    const Fit fit = fit_number(scene, {1e-3, 0.02, 16.0, 100.0, 1000.0}, false, scaled);
    if (!is_scale(fit.value) || !std::isfinite(fit.residual)) continue;
    out.push_back({cached ? "new tokens of " + words : words,
                   {{"factor", number(fit.value)}},
                   scaled(fit.value),
                   1});
  }
}

void propose(Scene& scene, Proposals& out) {
  // A factor near 1 is no scale that somebody forgot: it stays unnamed, and the report says it.
  if (!scene.solving() || !same_shape(scene.observed(), scene.expected())) return;
  if (!scene.observed().is_floating_point()) return;
  propose_on_the_way(scene, out);
  const Op& op = *scene.net().find(scene.point());
  if (op.kind != "linear" && op.kind != "cache_append") return;
  const bool biased = op.kind == "linear" && op.weights.size() > 1;
  const at::Tensor shift = biased ? scene.weight(op.weights[1]) : at::zeros({1}, at::kDouble);
  const at::Tensor right = (scene.expected() - shift) * scene.counts(),
                   found = (scene.observed() - shift) * scene.counts();
  if (op.kind == "linear" && right.dim() == 3 && right.size(0) * right.size(1) >= 4) {
    // One scale for each output row.
    const at::Tensor r = right.flatten(0, 1), f = found.flatten(0, 1);
    const at::Tensor scales = (r * f).sum(0) / r.square().sum(0).clamp_min(1e-300);
    const bool large = scales.abs().gt(8).all().item<bool>();
    const bool small = scales.abs().lt(0.125).logical_and(scales.ne(0)).all().item<bool>();
    if (large || small) {
      out.push_back({"one scale an output",
                     {},
                     wrap({scene.point()},
                          [scales, biased](const Op& good, const Tensors& in, const Tensors& w) {
                            const at::Tensor y = good.run(in, w);
                            const at::Tensor by = scales.to(y.scalar_type());
                            return biased ? (y - w[1]) * by + w[1] : y * by;
                          }),
                     static_cast<int>(scales.size(0)),
                     true});
    }
  }
  if (op.kind == "cache_append") {
    // New tokens were stored without their scale; what was there before is right.
    const std::int64_t fresh = scene.context().length(), old = right.size(2) - fresh;
    const at::Tensor r = right.slice(2, old), f = found.slice(2, old);
    const double scale = ((f * r).sum() / (r * r).sum()).item<double>();
    if (!is_scale(scale)) return;
    out.push_back({"new tokens",
                   {{"factor", number(scale)}},
                   wrap({scene.point()},
                        [scale, old](const Op& good, const Tensors& in, const Tensors& w) {
                          const at::Tensor all = good.run(in, w);
                          return at::cat({all.slice(2, 0, old), all.slice(2, old) * scale}, 2);
                        }),
                   1});
  }
  const double factor = ((found * right).sum() / (right * right).sum()).item<double>();
  if (!is_scale(factor)) return;
  out.push_back({"",
                 {{"factor", number(factor)}},
                 wrap({scene.point()},
                      [factor, biased](const Op& good, const Tensors& in, const Tensors& w) {
                        const at::Tensor y = good.run(in, w);
                        return biased ? (y - w[1]) * factor + w[1] : y * factor;
                      }),
                 1});
}

}  // namespace

extern const FaultSpec weights_dtype_scale_dropped;
const FaultSpec weights_dtype_scale_dropped = {
    {"weights-dtype-scale-dropped", "weights", 3,
     "a linear map's result (or a cached key or value) is too large or too small by one constant: "
     "a quantisation scale was not applied",
     "load weight_scale, k_scale and v_scale, and multiply by them",
     "needs quantised weights or caches", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
