#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  bool any = false;
  for (const bool cross : site.config().cross_layer) any = any || cross;
  if (!any) return std::nullopt;
  plant.config = [](ModelConfig& config) {
    config.cross_layer.assign(config.cross_layer.size(), false);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(replica_feature_shadowed, "replica-feature-shadowed", "replica", kListed, make)
