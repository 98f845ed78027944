#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (site.cross_kv()) return std::nullopt;
  plant.after = [](const Planting& at) {
    if (!is_mask(at)) return;
    remask(at, [&](const MaskCell& cell) { return !cell.visible; });
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(mask_polarity_inverted, "mask-polarity-inverted", "mask", kListed, make)
