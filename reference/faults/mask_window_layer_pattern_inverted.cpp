#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  propose_mask(scene, out, [](const MaskParts& m) {
    MaskParts other = m;
    other.window = m.window > 0 ? 0 : m.context->config->sliding_window;
    return with_prefix(m, other.causal().unsqueeze(0).logical_and(m.real));
  });
}

}  // namespace

extern const FaultSpec mask_window_layer_pattern_inverted;
const FaultSpec mask_window_layer_pattern_inverted = {
    {"mask-window-layer-pattern-inverted", "mask", 3, "sliding and full layers are exchanged",
     "layers from max_window_layers on slide; layer_types, where given, decides",
     "needs more tokens than the window, and layers of both kinds", false},
    [](const ModelConfig& c) { return c.sliding_window > 0; },
    propose};

}  // namespace ps::reference::faults
