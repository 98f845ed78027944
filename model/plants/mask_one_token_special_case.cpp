#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (site.cross_kv()) return std::nullopt;
  plant.after = [](const Planting& at) {
    if (!is_mask(at)) return;
    if (at.inputs.tokens != 1) return;
    remask(at, [](const MaskCell&) { return true; });
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(mask_one_token_special_case, "mask-one-token-special-case", "mask", kListed, make)
