#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  const std::int64_t p = scene.config().replicas;
  propose_wrap(
      scene, out, scene.ops("replicate"),
      [p](const Op&, const Tensors& in, const Tensors&) { return in[0].repeat_interleave(p, 0); });
}

}  // namespace

extern const FaultSpec replica_input_order;
const FaultSpec replica_input_order = {
    {"replica-input-order", "replica", 3,
     "the batch is repeated sample by sample (b p) instead of replica by replica (p b)",
     "tile the batch: row p*B + b is sample b",
     "needs more than one replica and more than one sample", false},
    [](const ModelConfig& c) { return c.replicas > 1; },
    propose};

}  // namespace ps::reference::faults
