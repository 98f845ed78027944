#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  const bool tiny = site.pick(2) == 0;
  plant.words = tiny ? "tiny values" : "zeros";
  plant.frequencies = [=](std::vector<float>& inverse, double&) {
    inverse.assign(inverse.size(), tiny ? 6.9e-18F : 0.F);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(rope_inv_freq_uninitialised, "rope-inv-freq-uninitialised", "rope", kListed, make)
