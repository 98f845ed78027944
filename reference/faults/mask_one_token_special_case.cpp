#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  if (scene.context().length() != 1) return;
  propose_mask(scene, out, [](const MaskParts& m) {
    return with_prefix(m, at::ones({1, 1, m.key.size(1)}, at::kBool));
  });
}

}  // namespace

extern const FaultSpec mask_one_token_special_case;
const FaultSpec mask_one_token_special_case = {
    {"mask-one-token-special-case", "mask", 2,
     "steps of one token take another branch and lose their mask",
     "decide by what is in the cache and in the mask, not by whether there is one query",
     "needs a step of one token with padding", true},
    any_model,
    propose};

}  // namespace ps::reference::faults
