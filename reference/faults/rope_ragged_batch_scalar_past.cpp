#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  if (!scene.context().inputs->position_ids) return;
  RopeChange change;
  change.positions = [](const StepContext& c) {
    return at::arange(c.past, c.past + c.length(), at::kLong).unsqueeze(0);
  };
  propose_tables(scene, out, change, "", {});
}

}  // namespace

extern const FaultSpec rope_ragged_batch_scalar_past;
const FaultSpec rope_ragged_batch_scalar_past = {
    {"rope-ragged-batch-scalar-past", "rope", 3,
     "one position count serves all rows of a ragged batch: the padding of a row is counted",
     "take position_ids row by row (cumulative sum of the attention mask less one)",
     "needs padding and position_ids that leave it out", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
