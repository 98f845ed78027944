#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  std::map<std::string, Values> swapped;
  for (std::int64_t i = 0; i < site.config().layers; ++i) {
    for (const char* part : {"weight", "bias"}) {
      const std::string name = "model.layers." + std::to_string(i) + ".self_attn.";
      const std::string k = name + "k_proj." + part, v = name + "v_proj." + part;
      if (!site.has(k)) continue;
      swapped[k] = site.stored(v);
      swapped[v] = site.stored(k);
    }
  }
  plant.weight = [=](const std::string& name, Tensor& value) {
    if (const auto it = swapped.find(name); it != swapped.end()) write(value, it->second);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(swap_kv, "swap-kv", "weights", kListed, make)
