#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (!site.config().aggregates() || site.cross_kv()) return std::nullopt;
  plant.after = [](const Planting& at) {
    if (!is_mask(at)) return;
    std::vector<std::int64_t> from;  // row p*B + i uses the mask of sample (p*B + i) / P
    for (std::int64_t row = 0; row < at.value.size(0); ++row)
      from.push_back(row / at.config.replicas);
    write(at.value, rows_at(at.value, from));
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(replica_mask_not_expanded, "replica-mask-not-expanded", "replica", kListed, make)
