#include "reference/fault_tools.h"
#include "reference/ops/blocks.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  for (std::int64_t gone = 1; gone < std::min<std::int64_t>(scene.context().past, 65); ++gone) {
    RopeChange change;
    change.positions = [gone](const StepContext& c) { return rope_positions(c) - gone; };
    propose_tables(scene, out, change, "", {{"evicted", std::to_string(gone)}});
  }
}

}  // namespace

extern const FaultSpec rope_after_eviction_phase;
const FaultSpec rope_after_eviction_phase = {
    {"rope-after-eviction-phase", "rope", 3,
     "after tokens left the cache, new positions are counted from what is left: they are too small "
     "by the number that left",
     "keep counting positions, whatever the cache still holds", "needs tokens that leave the cache",
     true},
    any_model,
    propose};

}  // namespace ps::reference::faults
