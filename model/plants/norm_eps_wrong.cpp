#include <cstdio>

#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  const double right = site.config().rms_norm_eps;
  double wrong = right == 1e-6 ? 1e-5 : 1e-6;
  if (site.pick(3) == 0) wrong = right == 1e-3 ? 1e-5 : 1e-3;
  char text[64];
  std::snprintf(text, sizeof text, "%g instead of %g", wrong, right);
  plant.words = text;
  plant.config = [=](ModelConfig& config) { config.rms_norm_eps = wrong; };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(norm_eps_wrong, "norm-eps-wrong", "norm", kListed, make)
