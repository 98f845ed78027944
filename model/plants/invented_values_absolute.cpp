#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  plant.words = "values are cached without their sign";
  (void)site;
  plant.after = [](const Planting& at) {
    if (!at.is(".self_attn:v_cache")) return;
    Values x = read(at.value);
    for (double& cell : x) cell = std::fabs(cell);
    write(at.value, x);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(invented_values_absolute, "invented-values-absolute", "cache", kInvented, make)
