#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  const std::vector<Point> probs = scene.ops("probs");
  if (!scene.solving() || probs.empty() || scene.point() != probs.back()) return;
  if (!same_shape(scene.observed(), scene.expected())) return;
  const at::Tensor kept = scene.observed().ne(0).logical_and(at::isfinite(scene.observed()));
  const at::Tensor solid = scene.expected().gt(1e-3);
  const at::Tensor ratio =
      (scene.observed() / scene.expected()).masked_select(kept.logical_and(solid));
  const bool all_kept = kept.logical_or(solid.logical_not()).all().item<bool>();
  if (ratio.numel() < 4 || all_kept) return;
  const double scale = ratio.median().item<double>();
  if (!(scale > 1.0)) return;
  out.push_back({"",
                 {{"p", number(1.0 - 1.0 / scale)}},
                 wrap({probs.back()},
                      [kept, scale](const Op& good, const Tensors& in, const Tensors& w) {
                        const at::Tensor right = good.run(in, w);
                        return right * kept.to(right.scalar_type()) * scale;
                      }),
                 2});
}

}  // namespace

extern const FaultSpec attention_dropout_in_eval;
const FaultSpec attention_dropout_in_eval = {
    {"attention-dropout-in-eval", "attention", 3,
     "dropout is active: some attention weights are 0 and the others are scaled up",
     "pass dropout_p = 0 outside training", "needs a captured :probs", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
