#include "reference/fault_tools.h"
#include "reference/ops/blocks.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  propose_rotation(
      scene, out,
      [](const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
        return rotate(x, cos, -sin);
      },
      Which::kEach);
  // At the tables: a negated sine is that of the negated position.
  if (!scene.ops("rope").empty()) return;
  RopeChange change;
  change.positions = [](const StepContext& c) { return -rope_positions(c); };
  propose_tables(scene, out, change, "", {});
}

}  // namespace

extern const FaultSpec rope_sign;
const FaultSpec rope_sign = {
    {"rope-sign", "rope", 1, "the angles have the opposite sign: tokens are rotated backwards",
     "the second half takes +x1 sin, the first half -x2 sin", "needs a position other than 0",
     false},
    any_model,
    propose};

}  // namespace ps::reference::faults
