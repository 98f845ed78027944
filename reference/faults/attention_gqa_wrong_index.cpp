#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  const ModelConfig& c = scene.config();
  const auto map_of = [&](auto kv_of) {
    std::vector<std::int64_t> map;
    for (std::int64_t h = 0; h < c.heads; ++h) map.push_back(kv_of(h));
    return map;
  };
  const std::int64_t group = c.group(), kv = c.kv_heads;
  const auto right = map_of([&](std::int64_t h) { return h / group; });
  const struct {
    const char* words;
    std::vector<std::int64_t> map;
  } kMaps[] = {{"always head 0", map_of([](std::int64_t) { return std::int64_t{0}; })},
               {"always the last head", map_of([&](std::int64_t) { return kv - 1; })},
               {"h / kv_heads", map_of([&](std::int64_t h) { return std::min(h / kv, kv - 1); })},
               {"in reverse order", map_of([&](std::int64_t h) { return kv - 1 - h / group; })},
               {"one head further", map_of([&](std::int64_t h) { return (h / group + 1) % kv; })}};
  for (const auto& way : kMaps) {
    if (way.map != right) propose_head_map(scene, out, way.map, way.words);
  }
}

}  // namespace

extern const FaultSpec attention_gqa_wrong_index;
const FaultSpec attention_gqa_wrong_index = {
    {"attention-gqa-wrong-index", "attention", 3, "query heads read the wrong key/value head",
     "query head h reads key/value head h / (heads / kv_heads)",
     "needs more than one key/value head", false},
    [](const ModelConfig& c) { return c.kv_heads > 1; },
    propose};

}  // namespace ps::reference::faults
