#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (!site.weighs() || site.config().attn_smooth == 0) return std::nullopt;
  plant.config = [](ModelConfig& config) { config.attn_smooth = 0; };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(agg_no_smooth, "agg-no-smooth", "aggregation", kListed, make)
