#include "reference/fault_tools.h"
#include "reference/ops/blocks.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  propose_mask(scene, out, [](const MaskParts& m) {
    return with_prefix(m, m.causal().unsqueeze(0).logical_and(m.real)).logical_not();
  });
  propose_mask(
      scene, out,
      [](const MaskParts& m) {
        return with_prefix(m, m.causal().unsqueeze(0).logical_and(m.real).logical_not());
      },
      "of the tokens; the prefix is seen");
  propose_mask(
      scene, out,
      [](const MaskParts& m) {
        return with_prefix(m, m.causal().unsqueeze(0).logical_and(m.real.logical_not()));
      },
      "of the padding only");
  // Rows that then see nothing are NaN where hidden cells are minus infinity.
  propose_softmax(
      scene, out,
      [](const StepContext& c, const at::Tensor& scores, const at::Tensor& mask) {
        return masked_softmax(scores, mask.logical_not(), EmptyRows::kNan, c.types);
      },
      "rows that see nothing are NaN");
}

}  // namespace

extern const FaultSpec mask_polarity_inverted;
const FaultSpec mask_polarity_inverted = {
    {"mask-polarity-inverted", "mask", 4,
     "the mask is inverted: what may be attended is hidden, and the reverse",
     "True means 'may attend' here; flip masks that mark what to ignore", "needs a mask at all",
     false},
    any_model,
    propose};

}  // namespace ps::reference::faults
