#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  const auto weights = [p = scene.config().replicas](const at::Tensor& right) {
    return at::full_like(right, 1.0 / static_cast<double>(p));
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

extern const FaultSpec agg_mean;
const FaultSpec agg_mean = {
    {"agg-mean", "aggregation", 1, "the replicas are averaged: the gate's weights are not used",
     "weight the replicas' outputs with the gate's softmax", "needs replicas that differ: a prefix",
     false},
    [](const ModelConfig& c) { return c.replicas > 1; },
    propose};

}  // namespace ps::reference::faults
