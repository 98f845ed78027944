#include "reference/fault_tools.h"
#include "reference/ops/blocks.h"

namespace ps::reference::faults {

namespace {

// Whether a captured point is what its op reads, with heads split and nothing turned.
bool unrotated(Scene& scene, const Point& point) {
  const Op* op = scene.net().find(point);
  if (op == nullptr || !scene.given(point)) return true;  // not known: may be
  const at::Tensor found = scene.value(point), x = scene.value(op->inputs[0]);
  if (!found.defined() || !x.defined()) return false;
  const at::Tensor heads = split_heads(x.flatten(2), found.size(1));
  return (found - heads).norm().item<double>() <= 1e-2 * heads.norm().item<double>();
}

void propose(Scene& scene, Proposals& out) {
  const Rotation none = [](const at::Tensor& x, const at::Tensor&, const at::Tensor&) { return x; };
  const std::vector<Point> rotations = scene.ops("rope");
  if (rotations.empty()) return;
  // With the keys alone in view, the queries tell this from rope-q-only.
  const bool keys_alone = rotations.back() == scene.point() && scene.point().ends_with(":k_rope");
  if (keys_alone && !unrotated(scene, layer(layer_of(scene.point()), "self_attn:q_rope"))) return;
  propose_rotation(scene, out, none, Which::kBoth);
  if (!keys_alone) propose_rotation(scene, out, none, Which::kQueries, "queries only");
}

}  // namespace

extern const FaultSpec rope_not_applied;
const FaultSpec rope_not_applied = {
    {"rope-not-applied", "rope", 3, "queries and keys are not rotated at all",
     "call the rotation, and use what it returns", "needs a position other than 0", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
