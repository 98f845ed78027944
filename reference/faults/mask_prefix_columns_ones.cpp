#include "reference/fault_tools.h"
#include "reference/ops/blocks.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  propose_softmax(scene, out,
                  [](const StepContext& c, const at::Tensor& scores, const at::Tensor& mask) {
                    const at::Tensor bias = at::zeros_like(scores);
                    bias.slice(-1, 0, c.config->prefix_tokens).fill_(1.0);
                    return masked_softmax(scores + bias, mask, c.empty_rows, c.types);
                  });
}

}  // namespace

extern const FaultSpec mask_prefix_columns_ones;
const FaultSpec mask_prefix_columns_ones = {
    {"mask-prefix-columns-ones", "mask", 3,
     "the prefix columns of the additive mask hold 1 instead of 0: each prefix key's weight grows "
     "by e",
     "in an additive mask, what may be attended is 0", "needs a prefix", false},
    [](const ModelConfig& c) { return c.prefix_tokens > 0; },
    propose};

}  // namespace ps::reference::faults
