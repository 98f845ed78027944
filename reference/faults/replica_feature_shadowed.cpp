#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  std::vector<Point> points = scene.ops("residual", ":cross_residual");
  propose_wrap(scene, out, points,
               [](const Op&, const Tensors& in, const Tensors&) { return in[0]; });
}

}  // namespace

extern const FaultSpec replica_feature_shadowed;
const FaultSpec replica_feature_shadowed = {
    {"replica-feature-shadowed", "replica", 3,
     "cross-replica attention is never executed, although the config asks for it and its weights "
     "are there",
     "check which class of that name the model builds: a later one may have been shadowed by an "
     "older one",
     "needs layers with cross-replica attention", false},
    [](const ModelConfig& c) {
      return std::find(c.cross_layer.begin(), c.cross_layer.end(), true) != c.cross_layer.end();
    },
    propose};

}  // namespace ps::reference::faults
