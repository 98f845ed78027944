#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (site.cross_kv() || site.config().prefix_tokens == 0) return std::nullopt;
  plant.after = [](const Planting& at) {
    if (!is_mask(at)) return;
    remask(at, [&](const MaskCell& cell) {
      return cell.column >= at.inputs.keys ||
             (cell.column <= cell.place && at.inputs.key_valid[static_cast<std::size_t>(
                                               cell.sample * at.inputs.keys + cell.column)] != 0);
    });
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(mask_prefix_appended, "mask-prefix-appended", "mask", kListed, make)
