#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  propose_wrap(scene, out, scene.ops("aggregate_weights"),
               [](const Op&, const Tensors& in, const Tensors&) { return at::softmax(in[0], -1); });
}

}  // namespace

extern const FaultSpec agg_no_smooth;
const FaultSpec agg_no_smooth = {
    {"agg-no-smooth", "aggregation", 1, "the gate's weights are not smoothed",
     "w (1 - s) + s / P with s = parscale_attn_smooth", "needs a smoothing other than 0", false},
    [](const ModelConfig& c) { return c.replicas > 1 && c.attn_smooth != 0; },
    propose};

}  // namespace ps::reference::faults
