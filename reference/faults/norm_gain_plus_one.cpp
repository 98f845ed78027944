#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  for (const double shift : {1.0, -1.0}) {
    propose_wrap(
        scene, out, scene.ops("rms_norm"),
        [shift](const Op& good, const Tensors& in, const Tensors& w) {
          return good.run(in, {w[0] + shift});
        },
        shift > 0 ? "w + 1" : "w - 1");
  }
}

}  // namespace

extern const FaultSpec norm_gain_plus_one;
const FaultSpec norm_gain_plus_one = {{"norm-gain-plus-one", "norm", 4,
                                       "the norm's weight is off by one: it multiplies by 1 + w, "
                                       "or by w - 1 where the one was folded in",
                                       "models with a (1 + w) gain and models without one need "
                                       "different kernels; this one multiplies by w",
                                       "always visible", false},
                                      any_model,
                                      propose};

}  // namespace ps::reference::faults
