#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  bool any = false;
  for (const bool cross : site.config().cross_layer) any = any || cross;
  if (!any) return std::nullopt;
  plant.words = site.config().replica_rope ? "left out" : "applied without its flag";
  plant.config = [](ModelConfig& config) { config.replica_rope = !config.replica_rope; };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(rope_replica_flag, "rope-replica-flag", "rope", kListed, make)
