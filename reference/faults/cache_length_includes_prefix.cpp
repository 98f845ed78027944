#include "reference/fault_tools.h"
#include "reference/ops/blocks.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  const std::int64_t prefix = scene.config().prefix_tokens;
  const MakeMask longer = [prefix](const MaskParts& m) {
    return with_prefix(m, (m.key <= m.query + prefix).unsqueeze(0).logical_and(m.real));
  };
  const std::size_t before = out.size();
  propose_mask(scene, out, longer, "in the mask");
  RopeChange change;
  change.positions = [](const StepContext& c) {
    return rope_positions(c) + c.config->prefix_tokens;
  };
  const Edit tables = tables_edit(scene, change);
  if (tables && !scene.ops("probs").empty()) {
    out.push_back({"in the positions and in the mask", {}, both(tables, mask_edit(scene, longer))});
  }
  for (std::size_t i = before; i < out.size(); ++i) out[i].early = true;
  if (scene.context().past == 0) return;
  propose_tables(scene, out, change, "in the positions", {{"offset", std::to_string(prefix)}}, 0,
                 true);
}

}  // namespace

extern const FaultSpec cache_length_includes_prefix;
const FaultSpec cache_length_includes_prefix = {
    {"cache-length-includes-prefix", "cache", 3,
     "the cache's length counts the prefix, so positions or masks of later steps are off by its "
     "length",
     "get_seq_length() must leave the prefix out (physical length less the prefix tokens)",
     "needs a step with tokens in the cache, and a prefix", true},
    [](const ModelConfig& c) { return c.prefix_tokens > 0; },
    propose};

}  // namespace ps::reference::faults
