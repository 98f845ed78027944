#include <limits>

#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  if (!at::isinf(scene.observed()).any().item<bool>()) return;
  propose_wrap(scene, out, {scene.point()},
               [](const Op& good, const Tensors& in, const Tensors& w) {
                 const at::Tensor right = good.run(in, w);
                 return at::where(right.abs() > 65504.0,
                                  right * std::numeric_limits<double>::infinity(), right);
               });
}

}  // namespace

extern const FaultSpec numeric_fp16_overflow;
const FaultSpec numeric_fp16_overflow = {
    {"numeric-fp16-overflow", "numeric", 4, "values above 65504 overflow float16 to infinity",
     "run in bfloat16 or float32, or keep the residual in float32", "needs activations above 65504",
     false},
    any_model,
    propose};

}  // namespace ps::reference::faults
