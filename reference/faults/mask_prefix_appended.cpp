#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  propose_mask(scene, out, [](const MaskParts& m) {
    const std::int64_t prefix = m.context->config->prefix_tokens;
    const at::Tensor right = with_prefix(m, m.causal().unsqueeze(0).logical_and(m.real));
    return at::cat({right.slice(-1, prefix), right.slice(-1, 0, prefix)}, -1);
  });
}

}  // namespace

extern const FaultSpec mask_prefix_appended;
const FaultSpec mask_prefix_appended = {
    {"mask-prefix-appended", "mask", 1,
     "the mask's prefix columns stand behind the tokens instead of before them",
     "put the prefix columns first: the cache holds the prefix before the tokens",
     "needs a prefix and a row that does not see everything", false},
    [](const ModelConfig& c) { return c.prefix_tokens > 0; },
    propose};

}  // namespace ps::reference::faults
