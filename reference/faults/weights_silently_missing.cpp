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

// The same where x follows through attention: whatever is wrong there looks random too. Only a
// linear map of the right x, found from more rows than it has columns, can be one of other weights.
bool maps_randomly(const at::Tensor& x, const at::Tensor& found, const at::Tensor& counts) {
  const std::int64_t width = x.size(-1);
  if (!same_shape(x.narrow(-1, 0, 1), found.narrow(-1, 0, 1))) return false;
  at::Tensor rows = x.reshape({-1, width}), values = found.reshape({-1, found.size(-1)});
  if (counts.dim() == found.dim()) {
    const at::Tensor real = counts.expand_as(found)
                                .reshape({-1, found.size(-1)})
                                .select(1, 0)
                                .gt(0)
                                .nonzero()
                                .flatten();
    rows = rows.index_select(0, real);
    values = values.index_select(0, real);
  }
  if (rows.size(0) * 5 < width * 6 || !at::isfinite(values).all().item<bool>()) return false;
  const at::Tensor map = std::get<0>(at::linalg_lstsq(rows, values, std::nullopt, "gelsy"));
  const double left = ((at::matmul(rows, map) - values).norm() / values.norm()).item<double>();
  const double spread = (map.norm() / std::sqrt(static_cast<double>(map.numel()))).item<double>();
  const double usual = 1.0 / std::sqrt(3.0 * static_cast<double>(width));
  return left < 0.02 &&
         ((spread > 0.017 && spread < 0.023) || (spread > 0.85 * usual && spread < 1.15 * usual));
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
  if (!scene.solving()) return;
  const bool attends = !scene.ops("scores").empty();
  const Op& op = *scene.chain().back();
  if (op.kind != "linear" || op.point == "lm_head") return;
  const at::Tensor x = scene.value(op.inputs[0]);
  for (const bool biased : {true, false}) {
    if (biased && op.weights.size() < 2) continue;
    const at::Tensor shift = biased ? scene.weight(op.weights[1]) : at::zeros({1}, at::kDouble);
    const bool random = attends
                            ? maps_randomly(x, scene.observed() - shift, scene.counts())
                            : looks_random(x, scene.observed() - shift, scene.expected() - shift);
    if (!random) continue;
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
