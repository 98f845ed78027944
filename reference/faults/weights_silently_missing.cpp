#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

// y = x W^T with W of independent entries of spread 0.02, as initialisers make it: neither like
// what the checkpoint gives, nor a permutation of it, and as large as such a product is.
bool looks_random(const at::Tensor& x, const at::Tensor& found, const at::Tensor& right) {
  if (!same_shape(found, right) || !at::isfinite(found).all().item<bool>()) return false;
  const double cosine = ((found * right).sum() / (found.norm() * right.norm())).item<double>();
  const double cells = static_cast<double>(found.numel());
  if (cells < 64 ||
      std::fabs(cosine) > std::min(0.4, 3.0 / std::sqrt(static_cast<double>(found.size(-1)))))
    return false;
  const double spread =
      (found.norm() / std::sqrt(static_cast<double>(found.size(-1))) / x.norm()).item<double>();
  const double usual = 1.0 / std::sqrt(3.0 * static_cast<double>(x.size(-1)));  // of a fresh Linear
  return (spread > 0.017 && spread < 0.023) || (spread > 0.85 * usual && spread < 1.15 * usual);
}

void propose(Scene& scene, Proposals& out) {
  // Norm weights start as ones, biases as zeros, matrices as random numbers.
  for (const Point& point : scene.ops("rms_norm")) {
    out.push_back({scene.net().find(point)->weights[0] + " is still ones",
                   {},
                   wrap({point}, [](const Op& good, const Tensors& in, const Tensors& w) {
                     return good.run(in, {at::ones_like(w[0])});
                   })});
  }
  for (const char* kind : {"linear", "linear_of_silu"}) {
    for (const Point& point : scene.ops(kind)) {
      const Op& op = *scene.net().find(point);
      if (op.weights.size() < 2 || point.ends_with(".q_proj") || point.ends_with(".k_proj") ||
          point.ends_with(".v_proj"))
        continue;
      out.push_back({op.weights[1] + " is still zero",
                     {},
                     wrap({point}, [](const Op& good, const Tensors& in, const Tensors& w) {
                       return good.run(in, {w[0], at::zeros_like(w[1])});
                     })});
    }
  }
  // What the op read is known, or follows without attention from what is.
  if (!scene.solving() || !scene.ops("scores").empty()) return;
  const Op& op = *scene.chain().back();
  if (op.kind != "linear" || op.point == "lm_head") return;
  const at::Tensor x = scene.value(op.inputs[0]);
  for (const bool biased : {true, false}) {
    if (biased && op.weights.size() < 2) continue;
    const at::Tensor shift = biased ? scene.weight(op.weights[1]) : at::zeros({1}, at::kDouble);
    if (!looks_random(x, scene.observed() - shift, scene.expected() - shift)) continue;
    out.push_back({op.weights[0] + " is random",
                   {},
                   wrap({op.point}, [found = scene.observed()](const Op&, const Tensors&,
                                                               const Tensors&) { return found; }),
                   0,
                   true});
    break;
  }
}

}  // namespace

extern const FaultSpec weights_silently_missing;
const FaultSpec weights_silently_missing = {
    {"weights-silently-missing", "weights", 5,
     "a parameter still holds its initial value: the loader did not find it in the checkpoint",
     "load strictly, and map every name", "always visible", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
