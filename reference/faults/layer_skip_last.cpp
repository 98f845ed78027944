#include "reference/fault_tools.h"
#include "reference/ops/blocks.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  // Only where the last layer's own output was not captured.
  if (scene.in_chain(layer(scene.config().layers - 1)) && scene.config().layers > 1) {
    out.push_back({"", {}, [](const Net& net, Overrides& overrides) {
                     Op op = *net.find("model.norm");
                     op.inputs[0] = layer(net.config().layers - 2);
                     overrides.insert_or_assign("model.norm", std::move(op));
                   }});
  }
}

}  // namespace

extern const FaultSpec layer_skip_last;
const FaultSpec layer_skip_last = {
    {"layer-skip-last", "weights", 1, "the last layer is not run",
     "run all num_hidden_layers layers", "needs more than one layer", false},
    [](const ModelConfig& c) { return c.layers > 1; },
    propose};

}  // namespace ps::reference::faults
