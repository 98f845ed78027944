#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  for (const bool padding : {true, false}) {
    propose_mask(
        scene, out,
        [padding](const MaskParts& m) {
          at::Tensor seen = m.key <= m.query + 1;
          if (m.window > 0) seen = seen.logical_and(m.key > m.query - m.window);
          return with_prefix(m, padding ? seen.unsqueeze(0).logical_and(m.real) : seen);
        },
        padding ? "" : "padding ignored too");
  }
}

}  // namespace

extern const FaultSpec mask_causal_sees_next_token;
const FaultSpec mask_causal_sees_next_token = {
    {"mask-causal-sees-next-token", "mask", 1, "each query sees the token after it as well",
     "a query at i sees keys j <= i, not j <= i + 1", "needs a step with more than one new token",
     false},
    any_model,
    propose};

}  // namespace ps::reference::faults
