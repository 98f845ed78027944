#include <array>

#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (!site.config().qkv_bias) return std::nullopt;
  const char* which =
      std::array{"q_proj", "k_proj", "v_proj"}[static_cast<std::size_t>(site.pick(3))];
  plant.words = which;
  const std::string suffix = "self_attn." + std::string(which) + ".bias";
  plant.weight = [=](const std::string& name, Tensor& value) {
    if (ends(name, suffix)) write(value, Values(read(value).size(), 0.0));
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(weights_qkv_bias_dropped, "weights-qkv-bias-dropped", "weights", kListed, make)
