#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  (void)site;
  plant.inputs = [](PreparedInputs& in) {
    if (in.past == 0) return;
    for (std::int64_t& position : in.positions) ++position;
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(rope_decode_off_by_one, "rope-decode-off-by-one", "rope", kListed, make)
