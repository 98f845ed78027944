#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (!site.config().aggregates()) return std::nullopt;
  plant.after = [](const Planting& at) {
    if (at.point != "model:replicated") return;
    std::vector<std::int64_t> from;  // row p*B + i gets sample (p*B + i) / P
    for (std::int64_t row = 0; row < at.value.size(0); ++row)
      from.push_back(row / at.config.replicas);
    write(at.value, rows_at(at.value, from));
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(replica_input_order, "replica-input-order", "replica", kListed, make)
