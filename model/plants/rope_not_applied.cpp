#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  (void)site;
  plant.after = [](const Planting& at) {
    const bool keys = at.is(".self_attn:k_rope");
    if (keys || at.is(".self_attn:q_rope")) write(at.value, read(rope_input(at, keys)));
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(rope_not_applied, "rope-not-applied", "rope", kListed, make)
