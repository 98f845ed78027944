#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  propose_wrap(scene, out, scene.ops("act"),
               [](const Op& good, const Tensors& in, const Tensors& w) {
                 return good.run({in[1], in[0]}, w);
               });
}

}  // namespace

extern const FaultSpec act_on_up;
const FaultSpec act_on_up = {
    {"act-on-up", "weights", 1, "the activation is applied to up instead of gate", "act(gate) * up",
     "always visible", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
