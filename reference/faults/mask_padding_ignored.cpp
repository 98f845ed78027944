#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  propose_mask(scene, out, [](const MaskParts& m) { return with_prefix(m, m.causal()); });
}

}  // namespace

extern const FaultSpec mask_padding_ignored;
const FaultSpec mask_padding_ignored = {
    {"mask-padding-ignored", "mask", 4,
     "padding tokens are attended: the padding mask is not combined with the causal one",
     "and the attention mask into the causal mask", "needs padding", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
