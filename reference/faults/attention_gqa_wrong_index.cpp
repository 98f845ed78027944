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
               {"h / (heads / kv_heads + 1)",
                map_of([&](std::int64_t h) { return std::min(h / (group + 1), kv - 1); })},
               {"in reverse order", map_of([&](std::int64_t h) { return kv - 1 - h / group; })},
               {"one head further", map_of([&](std::int64_t h) { return (h / group + 1) % kv; })}};
  // Any other map, head by head, where the scores themselves were captured.
  const std::vector<Point> scores = scene.ops("scores");
  if (scene.solving() && scores.size() == 1 && scores[0] == scene.point() &&
      same_shape(scene.observed(), scene.expected())) {
    at::Tensor apart;  // [kv, heads]
    for (std::int64_t k = 0; k < kv; ++k) {
      const std::vector<std::int64_t> all_k(static_cast<std::size_t>(c.heads), k);
      Proposals one;
      propose_head_map(scene, one, all_k);
      const at::Tensor value = scene.replay(one[0].edit);
      if (!same_shape(value, scene.observed())) return;
      const at::Tensor off =
          ((value - scene.observed()) * scene.counts()).square().sum({0, 2, 3}).unsqueeze(0);
      apart = apart.defined() ? at::cat({apart, off}) : off;
    }
    const at::Tensor best = apart.argmin(0);
    const auto solved = map_of([&](std::int64_t h) { return best[h].item<std::int64_t>(); });
    std::string list = "[";
    for (const std::int64_t k : solved) list += (list.size() > 1 ? "," : "") + std::to_string(k);
    const auto before = out.size();
    if (solved != right) propose_head_map(scene, out, solved, "", {{"kv_of_head", list + "]"}});
    for (std::size_t i = before; i < out.size(); ++i) out[i].freedom = 1;
  }
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
