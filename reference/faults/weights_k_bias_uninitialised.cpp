#include <limits>

#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  const Op& op = *scene.net().find(scene.point());
  if (!scene.solving() || op.kind != "linear" || !op.point.ends_with("_attn.k_proj") ||
      !same_shape(scene.observed(), scene.expected()))
    return;
  if (at::isnan(scene.observed()).all().item<bool>()) {
    out.push_back({"NaN",
                   {},
                   wrap({scene.point()},
                        [](const Op& good, const Tensors& in, const Tensors& w) {
                          return good.run(in, w) * std::numeric_limits<double>::quiet_NaN();
                        }),
                   0,
                   true});
    return;
  }
  const at::Tensor off = at::nan_to_num((scene.observed() - scene.expected()) * scene.counts());
  const double rows = scene.counts().expand_as(off).select(-1, 0).sum().item<double>();
  if (rows < 4) return;
  const at::Tensor shift = off.flatten(0, 1).sum(0) / rows;
  out.push_back({"",
                 {},
                 wrap({scene.point()},
                      [shift](const Op& good, const Tensors& in, const Tensors& w) {
                        const at::Tensor y = good.run(in, w);
                        return y + shift.to(y.scalar_type());
                      }),
                 static_cast<int>(shift.size(0)),
                 true});
}

}  // namespace

extern const FaultSpec weights_k_bias_uninitialised;
const FaultSpec weights_k_bias_uninitialised = {
    {"weights-k-bias-uninitialised", "weights", 2,
     "the keys are off by one constant vector that is no bias of the checkpoint: k's slice of a "
     "fused bias was never written",
     "zero the k slice of a fused qkv bias, or load it", "needs a fused qkv bias", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
