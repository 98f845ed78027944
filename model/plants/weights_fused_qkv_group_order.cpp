#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  const ModelConfig& c = site.config();
  if (c.kv_heads == 1) return std::nullopt;
  const std::int64_t kv = c.kv_heads, group = c.group();
  // Stored a group at a time (its queries, its key, its value); read as all q, all k, all v.
  std::map<std::string, Values> cut;
  for (std::int64_t i = 0; i < c.layers; ++i) {
    const std::string at = "model.layers." + std::to_string(i) + ".self_attn.";
    for (const char* part : {".weight", ".bias"}) {
      if (!site.has(at + "q_proj" + part)) continue;
      const Values q = site.stored(at + "q_proj" + part), k = site.stored(at + "k_proj" + part),
                   v = site.stored(at + "v_proj" + part);
      const std::size_t head = k.size() / static_cast<std::size_t>(kv);  // values of one head
      Values fused;
      const auto append = [&](const Values& from, std::int64_t first, std::int64_t count) {
        const auto begin = from.begin() + first * static_cast<std::ptrdiff_t>(head);
        fused.insert(fused.end(), begin, begin + count * static_cast<std::ptrdiff_t>(head));
      };
      for (std::int64_t g = 0; g < kv; ++g) {
        append(q, g * group, group);
        append(k, g, 1);
        append(v, g, 1);
      }
      const auto slice = [&](std::size_t first, std::size_t count) {
        const auto begin = fused.begin() + static_cast<std::ptrdiff_t>(first);
        return Values(begin, begin + static_cast<std::ptrdiff_t>(count));
      };
      cut[at + "q_proj" + part] = slice(0, q.size());
      cut[at + "k_proj" + part] = slice(q.size(), k.size());
      cut[at + "v_proj" + part] = slice(q.size() + k.size(), v.size());
    }
  }
  plant.weight = [=](const std::string& name, Tensor& value) {
    if (const auto it = cut.find(name); it != cut.end()) write(value, it->second);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(weights_fused_qkv_group_order, "weights-fused-qkv-group-order", "weights", kListed,
              make)
