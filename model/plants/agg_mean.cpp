#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (!site.weighs()) return std::nullopt;
  plant.after = [](const Planting& at) {
    if (at.point != "model:aggregate_weights") return;
    Values w = read(at.value);
    const auto p = static_cast<std::size_t>(at.config.replicas);
    for (double& x : w) x = 1 / static_cast<double>(p);
    write(at.value, w);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(agg_mean, "agg-mean", "aggregation", kListed, make)
