#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  (void)site;
  plant.inputs = [](PreparedInputs& in) { in.key_valid.assign(in.key_valid.size(), 1); };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(mask_padding_ignored, "mask-padding-ignored", "mask", kListed, make)
