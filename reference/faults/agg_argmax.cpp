#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  const auto weights = [p = scene.config().replicas](const at::Tensor& right) {
    (void)p;
    return at::zeros_like(right).scatter(-1, right.argmax(-1, true), 1.0);
  };
  propose_wrap(scene, out, scene.ops("aggregate_weights"),
               [weights](const Op& good, const Tensors& in, const Tensors& w) {
                 return weights(good.run(in, w));
               });
  if (!scene.ops("aggregate_weights").empty()) return;
  propose_wrap(
      scene, out, scene.ops("aggregated"),
      [weights](const Op& good, const Tensors& in, const Tensors& w) {
        return good.run({weights(in[0]), in[1]}, w);
      },
      "the weights were computed and not used");
}

}  // namespace

extern const FaultSpec agg_argmax;
const FaultSpec agg_argmax = {
    {"agg-argmax", "aggregation", 1, "only the replica with the largest weight is used",
     "weight the replicas' outputs, do not choose one", "needs replicas that differ: a prefix",
     false},
    [](const ModelConfig& c) { return c.replicas > 1; },
    propose};

}  // namespace ps::reference::faults
