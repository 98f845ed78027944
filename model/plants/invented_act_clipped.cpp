#include <algorithm>

#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  plant.words = "activations are clipped at 0.3";
  (void)site;
  plant.after = [](const Planting& at) {
    if (!at.is(".mlp:act")) return;
    Values x = read(at.value);
    for (double& cell : x) cell = std::min(cell, 0.3);
    write(at.value, x);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(invented_act_clipped, "invented-act-clipped", "weights", kInvented, make)
