#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  const Rotation none = [](const at::Tensor& x, const at::Tensor&, const at::Tensor&) { return x; };
  propose_rotation(scene, out, none, Which::kKeys);
}

}  // namespace

extern const FaultSpec rope_q_only;
const FaultSpec rope_q_only = {
    {"rope-q-only", "rope", 1, "only the queries are rotated, the keys are not",
     "rotate the new keys before they go into the cache", "needs a position other than 0", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
