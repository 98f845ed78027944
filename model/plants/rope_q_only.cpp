#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  (void)site;
  plant.after = [](const Planting& at) {
    if (at.is(".self_attn:k_rope")) write(at.value, read(rope_input(at, true)));
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(rope_q_only, "rope-q-only", "rope", kListed, make)
