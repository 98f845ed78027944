#include "reference/fault_tools.h"
#include "reference/ops/blocks.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  RopeChange plain;
  plain.frequencies = [](const StepContext& c) {
    ModelConfig other = *c.config;
    other.rope.kind = RopeKind::kDefault;
    return rope_frequencies(other, c.types);
  };
  RopeChange unscaled = plain;
  unscaled.scale = 1.0;
  propose_tables(scene, out, unscaled, "", {});
  const Rope& rope = scene.config().rope;
  if (rope.kind == RopeKind::kYarn) propose_tables(scene, out, plain, "attention factor kept", {});
  if (rope.kind == RopeKind::kDefault || rope.kind == RopeKind::kLinear) return;
  RopeChange linear;
  linear.frequencies = [](const StepContext& c) {
    ModelConfig other = *c.config;
    other.rope.kind = RopeKind::kLinear;
    return rope_frequencies(other, c.types);
  };
  linear.scale = 1.0;
  propose_tables(scene, out, linear, "read as linear scaling", {});
}

}  // namespace

extern const FaultSpec rope_scaling_ignored;
const FaultSpec rope_scaling_ignored = {
    {"rope-scaling-ignored", "rope", 4, "rope_scaling is ignored: the plain frequencies are used",
     "apply the config's rope_scaling when the frequencies are made, before the module is built",
     "needs positions beyond 0", false},
    [](const ModelConfig& c) { return c.rope.kind != RopeKind::kDefault; },
    propose};

}  // namespace ps::reference::faults
