#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (site.cross_kv()) return std::nullopt;
  plant.after = [](const Planting& at) {
    if (!is_mask(at)) return;
    if (at.inputs.past == 0 || at.inputs.tokens == 1) return;
    remask(at, [&](const MaskCell& cell) { return cell.visible || (cell.key >= 0 && cell.real); });
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(mask_causal_skipped_with_cache, "mask-causal-skipped-with-cache", "mask", kListed,
              make)
