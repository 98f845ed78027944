#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  (void)site;
  plant.after = [](const Planting& at) {
    if (at.point != "model.rotary_emb:sin") return;
    Values sine = read(at.value);
    for (double& x : sine) x = -x;
    write(at.value, sine);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(rope_sign, "rope-sign", "rope", kListed, make)
