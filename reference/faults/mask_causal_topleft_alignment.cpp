#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  const std::int64_t columns =
      scene.config().prefix_tokens + scene.context().past + scene.context().length();
  if (columns == scene.context().length()) return;
  for (const bool padding : {true, false}) {
    propose_mask(
        scene, out,
        [padding](const MaskParts& m) {
          const std::int64_t prefix = m.context->config->prefix_tokens;
          const std::int64_t total = prefix + m.key.size(1);
          const at::Tensor row = m.query - m.context->past;                          // [S,1]
          const at::Tensor seen = at::arange(total, at::kLong).unsqueeze(0) <= row;  // [S,C]
          at::Tensor all = seen.unsqueeze(0).expand({m.context->batch(), seen.size(0), total});
          if (padding) {
            const at::Tensor front = at::ones({m.context->batch(), 1, prefix}, at::kBool);
            all = all.logical_and(at::cat({front, m.real}, -1));
          }
          return all.unsqueeze(1).repeat({m.context->config->replicas, 1, 1, 1});
        },
        padding ? "over all columns" : "over all columns, padding ignored");
    if (scene.context().past == 0) continue;
    propose_mask(
        scene, out,
        [padding](const MaskParts& m) {
          const at::Tensor seen = (m.key <= m.query - m.context->past).unsqueeze(0);
          return with_prefix(m, padding ? seen.logical_and(m.real) : seen);
        },
        padding ? "over the tokens" : "over the tokens, padding ignored");
  }
}

}  // namespace

extern const FaultSpec mask_causal_topleft_alignment;
const FaultSpec mask_causal_topleft_alignment = {
    {"mask-causal-topleft-alignment", "mask", 5,
     "the causal triangle is aligned to the top left corner although there are more keys than "
     "queries",
     "align it to the last key: query i of S sees keys up to T + past + i",
     "needs more keys than queries: a prefix, a cache or a chunk", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
