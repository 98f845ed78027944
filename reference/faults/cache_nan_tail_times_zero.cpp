#include <algorithm>
#include <limits>

#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  const std::vector<Point> contexts = scene.ops("context");
  propose_wrap(scene, out, contexts, [](const Op& good, const Tensors& in, const Tensors& w) {
    return at::full_like(good.run(in, w), std::numeric_limits<double>::quiet_NaN());
  });
  // Where the weights were not captured, NaN in them is as good an explanation, and the simpler
  // one: that there is a tail, and that its memory holds NaN in this very run, is assumed.
  const bool seen = std::all_of(contexts.begin(), contexts.end(), [&](const Point& name) {
    const Op* op = scene.net().find(name);
    return op != nullptr && !op->inputs.empty() && scene.given(op->inputs[0]);
  });
  if (seen) return;
  for (Proposal& proposal : out) proposal.freedom += 1;
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
