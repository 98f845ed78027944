#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  for (const std::int64_t off : {1, -1}) {
    propose_mask(scene, out,
                 [off](const MaskParts& m) {
                   MaskParts other = m;
                   if (m.window > 0) other.window = m.window + off;
                   return with_prefix(m, other.causal().unsqueeze(0).logical_and(m.real));
                 },
                 off > 0 ? "one key too wide" : "one key too narrow",
                 {{"window", std::to_string(scene.config().sliding_window + off)}});
  }
}

}  // namespace

extern const FaultSpec mask_window_off_by_one;
const FaultSpec mask_window_off_by_one = {
    {"mask-window-off-by-one", "mask", 4, "the sliding window is one key too wide or too narrow",
     "a query at i sees keys j > i - window: window keys with itself",
     "needs more tokens than the window", false},
    [](const ModelConfig& c) { return c.sliding_window > 0; },
    propose};

}  // namespace ps::reference::faults
