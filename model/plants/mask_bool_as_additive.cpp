#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  (void)site;
  plant.after = [](const Planting& at) {
    if (!at.is(".self_attn:probs")) return;
    resoftmax(at,
              [](double score, bool visible, std::int64_t) { return score + (visible ? 1 : 0); });
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(mask_bool_as_additive, "mask-bool-as-additive", "mask", kListed, make)
