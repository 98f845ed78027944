#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  (void)site;
  plant.inputs = [](PreparedInputs& in) {
    if (in.past == 0) return;
    for (std::size_t i = 0; i < in.positions.size(); ++i)
      in.positions[i] = static_cast<std::int64_t>(i) % in.tokens;
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(rope_decode_position_restarts, "rope-decode-position-restarts", "rope", kListed, make)
