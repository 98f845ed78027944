#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (!site.weighs()) return std::nullopt;
  plant.after = [](const Planting& at) {
    if (at.point != "model:aggregated") return;
    write(at.value, read(at.points.at("model.norm").narrowed(0, 0, at.inputs.batch)));
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(agg_replica0, "agg-replica0", "aggregation", kListed, make)
