#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (site.config().prefix_tokens == 0) return std::nullopt;
  const Rng rng = site.rng();
  plant.weight = [=](const std::string& name, Tensor& value) {
    if (name.find(".self_attn.prefix_") == std::string::npos) return;
    Values random(read(value).size());
    for (std::size_t i = 0; i < random.size(); ++i) random[i] = rng.normal(i);
    write(value, random);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(weights_prefix_uninitialised, "weights-prefix-uninitialised", "weights", kListed,
              make)
