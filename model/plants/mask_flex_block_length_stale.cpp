#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (site.cross_kv()) return std::nullopt;
  plant.after = [](const Planting& at) {
    if (!is_mask(at) || at.inputs.past == 0) return;
    // The mask of the step before, for as many columns as it had.
    remask(at, [&](const MaskCell& cell) { return cell.visible && cell.key < at.inputs.past; });
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(mask_flex_block_length_stale, "mask-flex-block-length-stale", "mask", kListed, make)
