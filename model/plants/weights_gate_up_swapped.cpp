#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  const auto other = [](const std::string& name) {
    const bool gate = name.find("gate_proj") != std::string::npos;
    std::string out = name;
    return out.replace(out.find(gate ? "gate_proj" : "up_proj"), gate ? 9 : 7,
                       gate ? "up_proj" : "gate_proj");
  };
  std::map<std::string, Values> swapped;
  for (std::int64_t i = 0; i < site.config().layers; ++i) {
    for (const char* part : {".mlp.gate_proj.weight", ".mlp.gate_proj.bias", ".mlp.up_proj.weight",
                             ".mlp.up_proj.bias"}) {
      const std::string name = "model.layers." + std::to_string(i) + part;
      if (site.has(name)) swapped[name] = site.stored(other(name));
    }
  }
  plant.weight = [=](const std::string& name, Tensor& value) {
    if (const auto it = swapped.find(name); it != swapped.end()) write(value, it->second);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(weights_gate_up_swapped, "weights-gate-up-swapped", "weights", kListed, make)
