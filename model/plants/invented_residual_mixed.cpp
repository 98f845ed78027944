#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  plant.words = "the residual of one layer takes a tenth of its square";
  (void)site;
  plant.after = [](const Planting& at) {
    if (at.point != "model.layers.0:attn_residual") return;
    Values x = read(at.value);
    for (double& cell : x) cell += 0.1 * cell * cell;
    write(at.value, x);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(invented_residual_mixed, "invented-residual-mixed", "norm", kInvented, make)
