#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  const std::int64_t heads = scene.config().heads, rows = scene.context().rows();
  std::vector<std::int64_t> periods = {rows};
  if (scene.context().batch() != rows) periods.push_back(scene.context().batch());
  for (const std::int64_t period : periods) {
    propose_mask(
        scene, out,
        [=](const MaskParts& m) {
          const at::Tensor right = with_prefix(m, m.causal().unsqueeze(0).logical_and(m.real));
          const at::Tensor fused = at::arange(rows * heads, at::kLong).remainder(period);
          return right.index_select(0, fused).view({rows, heads, right.size(2), right.size(3)});
        },
        "row r and head h use mask (r*H + h) mod " + std::to_string(period));
  }
}

}  // namespace

extern const FaultSpec mask_heads_batch_order;
const FaultSpec mask_heads_batch_order = {
    {"mask-heads-batch-order", "mask", 2,
     "on a fused (rows x heads) axis the mask is repeated in the wrong order: a row uses another "
     "sample's mask",
     "repeat each sample's mask heads times (repeat_interleave), or keep the axes apart",
     "needs samples with different padding", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
