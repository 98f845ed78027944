#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (site.cross_kv()) return std::nullopt;
  plant.after = [](const Planting& at) {
    if (!is_mask(at)) return;
    remask(at, [&](const MaskCell& cell) { return cell.column <= cell.query && (cell.key < 0 || cell.real); });
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(mask_causal_topleft_alignment, "mask-causal-topleft-alignment", "mask", kListed, make)
