#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (!site.config().aggregates() || site.config().attn_smooth == 0) return std::nullopt;
  plant.after = [](const Planting& at) {
    if (at.point != "model:aggregate_weights") return;
    Values w = read(at.value);
    const auto p = static_cast<std::size_t>(at.config.replicas);
    // The smoothing term is not divided by P.
    for (double& x : w) x += at.config.attn_smooth * (1 - 1 / static_cast<double>(p));
    write(at.value, w);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(aggregation_weights_not_normalised, "aggregation-weights-not-normalised",
              "aggregation", kListed, make)
