#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  const double right = site.config().rope.theta;
  const double wrong = right == 1e4 ? 1e6 : 1e4;
  if (site.config().head_dim < 4) return std::nullopt;
  plant.config = [=](ModelConfig& config) { config.rope.theta = wrong; };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(rope_theta_default, "rope-theta-default", "rope", kListed, make)
