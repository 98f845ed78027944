#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  if (scene.context().past == 0) return;
  RopeChange change;
  change.positions = [](const StepContext& c) {
    return at::arange(c.length(), at::kLong).unsqueeze(0);
  };
  propose_tables(scene, out, change, "", {}, 0, true);
}

}  // namespace

extern const FaultSpec rope_decode_position_restarts;
const FaultSpec rope_decode_position_restarts = {
    {"rope-decode-position-restarts", "rope", 4,
     "new tokens get positions from 0 again instead of from the number of tokens in the cache",
     "positions of a step start at past (or at each row's own count of real tokens)",
     "needs a step with tokens in the cache", true},
    any_model,
    propose};

}  // namespace ps::reference::faults
