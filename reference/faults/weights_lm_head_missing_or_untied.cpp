#include "reference/fault_tools.h"
#include "reference/weights.h"

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
  const std::vector<Point> head = scene.ops("linear", "lm_head");
  if (head.empty()) return;
  propose_linear(
      scene, out, head,
      [](const at::Tensor& x, const at::Tensor& w, const at::Tensor&) {
        return at::zeros_like(linear_map(x, w));
      },
      "all zero");
  if (!scene.solving() || scene.point() != "lm_head" || !scene.ops("scores").empty()) return;
  at::Tensor x = scene.value(scene.net().find("lm_head")->inputs[0]);
  if (x.size(1) > scene.observed().size(1)) x = x.slice(1, -1);
  if (!looks_random(x, scene.observed(), scene.expected())) return;
  out.push_back({"random",
                 {},
                 wrap({"lm_head"}, [found = scene.observed()](const Op&, const Tensors&,
                                                              const Tensors&) { return found; }),
                 0,
                 true});
}

}  // namespace

extern const FaultSpec weights_lm_head_missing_or_untied;
const FaultSpec weights_lm_head_missing_or_untied = {
    {"weights-lm-head-missing-or-untied", "weights", 5,
     "lm_head is not the checkpoint's: it was never loaded, and holds random or zero numbers",
     "load the causal language model class, and map lm_head.weight (or tie it where the config "
     "says so)",
     "always visible", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
