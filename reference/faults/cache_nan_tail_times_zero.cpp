#include <limits>

#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  // Where the weights were not captured, a NaN in them (mask-zero-times-neginf) is as good an
  // explanation; it is met less often.
  propose_wrap(scene, out, scene.ops("context"),
               [](const Op& good, const Tensors& in, const Tensors& w) {
                 return at::full_like(good.run(in, w), std::numeric_limits<double>::quiet_NaN());
               });
}

}  // namespace

extern const FaultSpec cache_nan_tail_times_zero;
const FaultSpec cache_nan_tail_times_zero = {
    {"cache-nan-tail-times-zero", "cache", 5,
     "unused slots of the cache hold NaN: their weight is 0, and 0 x NaN is NaN",
     "zero new cache memory, or cut the unused tail off before the product with V",
     "needs memory that is not zero", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
