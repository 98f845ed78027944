#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  propose_mask(scene, out, [](const MaskParts& m) {
    return with_prefix(m, (m.key <= m.query).unsqueeze(0).logical_and(m.real));
  });
}

}  // namespace

extern const FaultSpec mask_window_missing;
const FaultSpec mask_window_missing = {
    {"mask-window-missing", "mask", 4, "the sliding window is ignored: old keys stay visible",
     "apply the window in sliding layers, and check that the backend takes it",
     "needs more tokens than the window", false},
    [](const ModelConfig& c) { return c.sliding_window > 0; },
    propose};

}  // namespace ps::reference::faults
