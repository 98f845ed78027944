#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (site.config().prefix_tokens == 0) return std::nullopt;
  plant.config = [](ModelConfig& config) { config.prefix_tokens = 0; };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(cache_prefix_never_prepended, "cache-prefix-never-prepended", "cache", kListed, make)
