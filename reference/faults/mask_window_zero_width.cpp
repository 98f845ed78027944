#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  for (const std::int64_t width : {0, 1}) {
    propose_mask(
        scene, out,
        [width](const MaskParts& m) {
          const at::Tensor seen = (m.key <= m.query).logical_and(m.key > m.query - width);
          return with_prefix(m, seen.unsqueeze(0).logical_and(m.real));
        },
        width == 0 ? "" : "each token sees itself alone");
  }
}

}  // namespace

extern const FaultSpec mask_window_zero_width;
const FaultSpec mask_window_zero_width = {
    {"mask-window-zero-width", "mask", 2, "a window of width zero is applied: no token is visible",
     "a window of 0 or null means that there is none", "always visible", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
