#include <array>

#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  const std::string layer = "model.layers." + std::to_string(site.pick(site.config().layers));
  const char* which = std::array{".self_attn.q_proj.weight", ".self_attn.o_proj.weight",
                                 ".mlp.up_proj.weight", ".mlp.down_proj.weight",
                                 ".input_layernorm.weight"}[static_cast<std::size_t>(site.pick(5))];
  const std::string missing = layer + which;
  plant.words = missing;
  const Rng rng = site.rng();
  plant.weight = [=](const std::string& name, Tensor& value) {
    if (name != missing) return;
    Values initial = read(value);  // what the module was built with: ones, or normal 0.02
    const bool norm = ends(name, "norm.weight");
    for (std::size_t i = 0; i < initial.size(); ++i) initial[i] = norm ? 1 : 0.02 * rng.normal(i);
    write(value, initial);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(weights_silently_missing, "weights-silently-missing", "weights", kListed, make)
