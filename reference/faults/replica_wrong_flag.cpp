#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  std::vector<Point> points = scene.ops("residual", ":cross_residual");
  propose_wrap(scene, out, points,
               [](const Op&, const Tensors& in, const Tensors&) { return in[0]; });
}

}  // namespace

extern const FaultSpec replica_wrong_flag;
const FaultSpec replica_wrong_flag = {
    {"replica-wrong-flag", "replica", 3,
     "cross-replica attention is skipped: another flag decides than the config's",
     "test enable_cross_attn for cross-replica attention, and let a missing attribute be an error",
     "needs layers with cross-replica attention", false},
    [](const ModelConfig& c) {
      return std::find(c.cross_layer.begin(), c.cross_layer.end(), true) != c.cross_layer.end();
    },
    propose};

}  // namespace ps::reference::faults
