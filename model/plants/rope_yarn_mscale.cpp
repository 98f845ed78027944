#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (site.config().rope.kind != RopeKind::kYarn) return std::nullopt;
  const bool squared = site.pick(2) == 1;
  plant.words = squared ? "squared" : "left out";
  plant.frequencies = [=](std::vector<float>&, double& factor) {
    factor = squared ? factor * factor : 1.0;
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(rope_yarn_mscale, "rope-yarn-mscale", "rope", kListed, make)
