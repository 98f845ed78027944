#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  const std::vector<Point> points = scene.ops("rms_norm", "model.norm");
  propose_wrap(
      scene, out, points, [](const Op&, const Tensors& in, const Tensors&) { return in[0]; },
      "missing");
  propose_wrap(
      scene, out, points,
      [](const Op& good, const Tensors& in, const Tensors& w) {
        return good.run({good.run(in, w)}, w);
      },
      "twice");
}

}  // namespace

extern const FaultSpec norm_final_missing_or_twice;
const FaultSpec norm_final_missing_or_twice = {
    {"norm-final-missing-or-twice", "norm", 3, "the final norm is missing, or applied twice",
     "apply model.norm once, to each replica's output",
     "always visible, but for a second norm when its weight is 1", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
