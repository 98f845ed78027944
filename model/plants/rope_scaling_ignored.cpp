#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (site.config().rope.kind == RopeKind::kDefault) return std::nullopt;
  plant.config = [](ModelConfig& config) {
    const double theta = config.rope.theta;
    config.rope = Rope{};
    config.rope.theta = theta;
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(rope_scaling_ignored, "rope-scaling-ignored", "rope", kListed, make)
