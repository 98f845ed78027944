#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  propose_mask(scene, out, [](const MaskParts& m) {
    const at::Tensor right = with_prefix(m, m.causal().unsqueeze(0).logical_and(m.real));
    const std::int64_t p = m.context->config->replicas;
    return right.index_select(0, at::arange(right.size(0), at::kLong).floor_divide(p));
  });
}

}  // namespace

extern const FaultSpec replica_mask_not_expanded;
const FaultSpec replica_mask_not_expanded = {
    {"replica-mask-not-expanded", "replica", 2,
     "the attention mask was not repeated for the replicas: rows use the mask of another sample",
     "repeat mask and position_ids for the replicas as the inputs are: row p*B + b is sample b",
     "needs samples with different padding, and more than one replica", false},
    [](const ModelConfig& c) { return c.replicas > 1; },
    propose};

}  // namespace ps::reference::faults
