#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (site.config().prefix_tokens == 0) return std::nullopt;
  plant.weight = [](const std::string& name, Tensor& value) {
    if (name.find(".self_attn.prefix_") != std::string::npos)
      write(value, Values(read(value).size(), 0.0));
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(cache_prefix_zero_placeholder, "cache-prefix-zero-placeholder", "cache", kListed,
              make)
