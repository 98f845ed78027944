#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  propose_softmax(scene, out,
                  [](const StepContext&, const at::Tensor& scores, const at::Tensor& mask) {
                    return at::softmax(scores + mask.to(scores.scalar_type()), -1);
                  });
}

}  // namespace

extern const FaultSpec mask_bool_as_additive;
const FaultSpec mask_bool_as_additive = {
    {"mask-bool-as-additive", "mask", 4,
     "the boolean mask is added to the scores (1 or 0) instead of hiding cells",
     "turn the boolean mask into 0 and minus infinity before adding it, or fill with it",
     "needs a row that does not see everything", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
