#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  plant.words = "logits beyond 1 are bent";
  (void)site;
  plant.after = [](const Planting& at) {
    if (at.point != "lm_head") return;
    Values x = read(at.value);
    for (double& cell : x) cell = std::fabs(cell) > 1 ? cell * cell * cell : cell;
    write(at.value, x);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(invented_logits_cubed, "invented-logits-cubed", "weights", kInvented, make)
