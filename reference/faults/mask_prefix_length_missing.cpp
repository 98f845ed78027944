#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  propose_mask(
      scene, out,
      [](const MaskParts& m) {
        const std::int64_t prefix = m.context->config->prefix_tokens;
        const at::Tensor right = with_prefix(m, m.causal().unsqueeze(0).logical_and(m.real));
        return at::cat({right.slice(-1, 0, prefix), right.slice(-1, 0, right.size(-1) - prefix)},
                       -1);
      },
      "shifted right by the prefix");
  for (const bool shifted : {true, false}) {
    propose_mask(
        scene, out,
        [shifted](const MaskParts& m) {
          const std::int64_t prefix = m.context->config->prefix_tokens;
          const at::Tensor right = with_prefix(m, m.causal().unsqueeze(0).logical_and(m.real));
          const at::Tensor tokens = right.slice(-1, prefix);
          const at::Tensor none = at::zeros_like(right.slice(-1, 0, prefix));
          return shifted ? at::cat({tokens, none}, -1) : at::cat({none, tokens}, -1);
        },
        shifted ? "laid over the prefix, the last columns hidden" : "the prefix is hidden");
  }
}

}  // namespace

extern const FaultSpec mask_prefix_length_missing;
const FaultSpec mask_prefix_length_missing = {
    {"mask-prefix-length-missing", "mask", 3,
     "the mask was not widened by the prefix: its columns are those of the tokens alone",
     "widen the mask by the prefix length, with columns that may always be attended",
     "needs a prefix", false},
    [](const ModelConfig& c) { return c.prefix_tokens > 0; },
    propose};

}  // namespace ps::reference::faults
