#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  const ModelConfig& c = scene.config();
  for (std::int64_t tp = 2 * c.kv_heads; tp <= c.heads; tp += c.kv_heads) {
    if (c.heads % tp != 0) continue;
    std::vector<std::int64_t> map;
    for (std::int64_t h = 0; h < c.heads; ++h) map.push_back(h * tp / c.heads % c.kv_heads);
    propose_head_map(scene, out, map, "", {{"tp", std::to_string(tp)}});
  }
}

}  // namespace

extern const FaultSpec shard_kv_head_replication;
const FaultSpec shard_kv_head_replication = {
    {"shard-kv-head-replication", "shard", 4,
     "with more ranks than key/value heads, ranks hold the wrong head's copy (rank mod K instead "
     "of rank / (ranks / K))",
     "rank r of tp holds key/value head r / (tp / kv_heads)",
     "needs more ranks than key/value heads, and more than one of those", false},
    [](const ModelConfig& c) { return c.kv_heads > 1 && c.group() > 1; },
    propose};

}  // namespace ps::reference::faults
