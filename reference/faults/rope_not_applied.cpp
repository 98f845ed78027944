#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  const Rotation none = [](const at::Tensor& x, const at::Tensor&, const at::Tensor&) { return x; };
  propose_rotation(scene, out, none, Which::kBoth);
  propose_rotation(scene, out, none, Which::kQueries, "queries only");
}

}  // namespace

extern const FaultSpec rope_not_applied;
const FaultSpec rope_not_applied = {
    {"rope-not-applied", "rope", 3, "queries and keys are not rotated at all",
     "call the rotation, and use what it returns", "needs a position other than 0", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
