#include "reference/fault_tools.h"
#include "reference/ops/blocks.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  if (scene.context().past == 0) return;
  RopeChange change;
  change.positions = [](const StepContext& c) { return rope_positions(c) + 1; };
  propose_tables(scene, out, change, "", {}, 0, true);
}

}  // namespace

extern const FaultSpec rope_decode_off_by_one;
const FaultSpec rope_decode_off_by_one = {
    {"rope-decode-off-by-one", "rope", 4,
     "positions of decode steps are one too large: the counter advances before it is used",
     "use the number of cached tokens as the position, then advance",
     "needs a step with tokens in the cache", true},
    any_model,
    propose};

}  // namespace ps::reference::faults
