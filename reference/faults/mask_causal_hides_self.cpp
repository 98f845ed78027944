#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  propose_mask(scene, out, [](const MaskParts& m) {
    at::Tensor seen = m.key < m.query;
    if (m.window > 0) seen = seen.logical_and(m.key > m.query - m.window);
    return with_prefix(m, seen.unsqueeze(0).logical_and(m.real));
  });
}

}  // namespace

extern const FaultSpec mask_causal_hides_self;
const FaultSpec mask_causal_hides_self = {
    {"mask-causal-hides-self", "mask", 1, "each query is kept from its own token",
     "a query at i sees keys j <= i, itself included", "always visible", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
