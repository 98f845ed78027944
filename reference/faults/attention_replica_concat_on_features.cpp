#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  const std::int64_t p = scene.config().replicas;
  propose_wrap(
      scene, out, scene.ops("scores"), [p](const Op& good, const Tensors& in, const Tensors& w) {
        const at::Tensor right = good.run(in, w);  // [P*B,H,S,C]
        const at::Tensor total =
            right.view({p, right.size(0) / p, right.size(1), right.size(2), right.size(3)}).sum(0) /
            std::sqrt(static_cast<double>(p));
        return total.repeat({p, 1, 1, 1});
      });
}

}  // namespace

extern const FaultSpec attention_replica_concat_on_features;
const FaultSpec attention_replica_concat_on_features = {
    {"attention-replica-concat-on-features", "attention", 2,
     "attention joins the replicas on the feature axis: every replica gets the sum of all "
     "replicas' scores by sqrt(P)",
     "keep the replicas apart, or give attention over them an axis of its own",
     "needs more than one replica", false},
    [](const ModelConfig& c) { return c.replicas > 1; },
    propose};

}  // namespace ps::reference::faults
