#include "reference/fault_tools.h"
#include "reference/ops/blocks.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  RopeChange change;
  change.positions = [](const StepContext& c) {
    return rope_positions(c) + c.config->prefix_tokens;
  };
  propose_tables(scene, out, change, "", {{"offset", std::to_string(scene.config().prefix_tokens)}},
                 0, true);
}

}  // namespace

extern const FaultSpec rope_position_offset_by_prefix;
const FaultSpec rope_position_offset_by_prefix = {
    {"rope-position-offset-by-prefix", "rope", 4,
     "the prefix is counted: every position is too large by the number of prefix tokens",
     "count real tokens only: the prefix keys are not rotated and take no positions",
     "needs a prefix", false},
    [](const ModelConfig& c) { return c.prefix_tokens > 0; },
    propose};

}  // namespace ps::reference::faults
