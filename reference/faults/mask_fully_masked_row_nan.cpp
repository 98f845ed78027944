#include "reference/fault_tools.h"
#include "reference/ops/blocks.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  propose_softmax(scene, out,
                  [](const StepContext& c, const at::Tensor& scores, const at::Tensor& mask) {
                    return masked_softmax(scores, mask, EmptyRows::kNan, c.types);
                  });
}

}  // namespace

extern const FaultSpec mask_fully_masked_row_nan;
const FaultSpec mask_fully_masked_row_nan = {
    {"mask-fully-masked-row-nan", "mask", 5,
     "a query without any visible key gets NaN from its softmax, and the NaN reaches every row of "
     "the sample through 0 x NaN",
     "give rows without a visible key the output 0, or keep one column visible for them",
     "needs a query without a visible key: left padding and no prefix", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
