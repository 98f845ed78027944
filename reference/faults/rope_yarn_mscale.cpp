#include "reference/fault_tools.h"
#include "reference/ops/blocks.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  const ModelConfig& config = scene.config();
  const double right = rope_table_scale(config.rope, config.max_position_embeddings);
  for (const double scale : {1.0, right * right}) {
    if (scale == right) continue;
    RopeChange change;
    change.scale = scale;
    propose_tables(scene, out, change, scale == 1.0 ? "missing" : "squared",
                   {{"factor", number(scale)}, {"expected", number(right)}}, 0, true);
  }
}

}  // namespace

extern const FaultSpec rope_yarn_mscale;
const FaultSpec rope_yarn_mscale = {
    {"rope-yarn-mscale", "rope", 3,
     "YaRN's attention factor on cos and sin is missing, squared, or on one of q and k only",
     "multiply cos and sin by the attention factor once (0.1 ln(factor) + 1 unless the config "
     "gives it)",
     "needs an attention factor other than 1", false},
    [](const ModelConfig& c) { return rope_table_scale(c.rope, c.max_position_embeddings) != 1.0; },
    propose};

}  // namespace ps::reference::faults
