#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  std::map<std::string, Values> first;
  for (std::int64_t i = 0; i < site.config().layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i);
    first[layer + ".post_attention_layernorm.weight"] =
        site.stored(layer + ".input_layernorm.weight");
  }
  plant.weight = [=](const std::string& name, Tensor& value) {
    if (const auto it = first.find(name); it != first.end()) write(value, it->second);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(norm2_uses_n1, "norm2-uses-n1", "norm", kListed, make)
