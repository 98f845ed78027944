#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (!site.cross_kv()) return std::nullopt;
  plant.after = [](const Planting& at) {
    if (at.point == "model:mask_cross_kv")
      write(at.value, Values(static_cast<std::size_t>(at.value.count()), 1.0));
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(mask_cross_replica_future_leak, "mask-cross-replica-future-leak", "mask", kListed,
              make)
