#include <limits>

#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  propose_softmax(scene, out, [](const StepContext&, const at::Tensor& scores, const at::Tensor&) {
    return at::full_like(scores, std::numeric_limits<double>::quiet_NaN());
  });
}

}  // namespace

extern const FaultSpec mask_zero_times_neginf;
const FaultSpec mask_zero_times_neginf = {
    {"mask-zero-times-neginf", "mask", 3,
     "the additive mask was built by multiplying with minus infinity: visible cells are 0 x inf = "
     "NaN",
     "fill with where(), never multiply by infinity", "needs a mask at all", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
