#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  if (scene.context().length() == 1) return;
  for (const bool padding : {true, false}) {
    propose_mask(
        scene, out,
        [padding](const MaskParts& m) {
          const at::Tensor all = at::ones({1, m.query.size(0), m.key.size(1)}, at::kBool);
          return with_prefix(m, padding ? all.logical_and(m.real) : all);
        },
        padding ? "" : "padding ignored too");
  }
}

}  // namespace

extern const FaultSpec mask_causal_skipped_with_cache;
const FaultSpec mask_causal_skipped_with_cache = {
    {"mask-causal-skipped-with-cache", "mask", 4,
     "no causal mask is applied: queries see later tokens",
     "build the causal mask in every step with more than one new token, with or without a cache",
     "needs a step with more than one new token", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
