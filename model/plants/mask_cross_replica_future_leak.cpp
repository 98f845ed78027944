#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (site.cross_kv() || !site.config().aggregates()) return std::nullopt;
  plant.after = [](const Planting& at) {
    if (!is_mask(at)) return;
    remask(at, [&](const MaskCell& cell) { return cell.key < 0 || cell.real; });
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(mask_cross_replica_future_leak, "mask-cross-replica-future-leak", "mask", kListed, make)
