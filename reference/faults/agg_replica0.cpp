#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  const auto weights = [p = scene.config().replicas](const at::Tensor& right) {
    (void)p;
    const at::Tensor one = at::zeros_like(right);
    one.select(-1, 0).fill_(1.0);
    return one;
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

extern const FaultSpec agg_replica0;
const FaultSpec agg_replica0 = {
    {"agg-replica0", "aggregation", 1, "only replica 0 is used",
     "weight the outputs of all replicas", "needs replicas that differ: a prefix", false},
    [](const ModelConfig& c) { return c.replicas > 1; },
    propose};

}  // namespace ps::reference::faults
