#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  if (!scene.solving() || scene.chain().size() != 1 ||
      !same_shape(scene.observed(), scene.expected()))
    return;
  const Op& op = *scene.chain()[0];
  if (op.kind != "linear" || op.point == "lm_head") return;
  const bool biased = op.weights.size() > 1;
  const at::Tensor shift = biased ? scene.weight(op.weights[1]) : at::zeros({1}, at::kDouble);
  const at::Tensor right = ((scene.expected() - shift) * scene.counts()).flatten(0, 1);
  const at::Tensor found = ((scene.observed() - shift) * scene.counts()).flatten(0, 1);
  if (right.size(0) < 4 || !at::isfinite(found).all().item<bool>()) return;
  const at::Tensor factor = (right * found).sum(0) / right.square().sum(0).clamp_min(1e-300);
  // Factors between scales of one matrix: positive, not all the same, and none of them a whole
  // scale (that one was not applied at all: weights-dtype-scale-dropped). Some rows may be right.
  const bool whole =
      factor.abs().gt(8).all().item<bool>() || factor.abs().lt(0.125).all().item<bool>();
  if (whole || !factor.gt(0).all().item<bool>() ||
      (factor.max() / factor.min()).item<double>() < 1.01) {
    return;
  }
  out.push_back({"",
                 {},
                 wrap({op.point},
                      [factor, biased](const Op& good, const Tensors& in, const Tensors& w) {
                        const at::Tensor y = good.run(in, w);
                        const at::Tensor f = factor.to(y.scalar_type());
                        return biased ? (y - w[1]) * f + w[1] : y * f;
                      }),
                 static_cast<int>(factor.size(0)),
                 true});
}

}  // namespace

extern const FaultSpec shard_quant_scale_wrong_slice;
const FaultSpec shard_quant_scale_wrong_slice = {
    {"shard-quant-scale-wrong-slice", "shard", 3,
     "each output of a linear map is off by a factor of its own, the same for all tokens: scales "
     "of another rank's rows were used",
     "slice quantisation scales and zero points as the weight's rows",
     "needs quantised weights on more than one rank", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
