#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (site.cross_kv() || site.config().sliding_window > 0 || site.config().prefix_tokens == 0)
    return std::nullopt;
  plant.after = [](const Planting& at) {
    if (!is_mask(at)) return;
    remask(at, [&](const MaskCell& cell) { return cell.key < 0; });
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(mask_window_zero_width, "mask-window-zero-width", "mask", kListed, make)
