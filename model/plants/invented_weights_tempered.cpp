#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  plant.words = "the replicas' weights are softened by a square root";
  if (!site.weighs()) return std::nullopt;
  plant.after = [](const Planting& at) {
    if (at.point != "model:aggregate_weights") return;
    Values w = read(at.value);
    const auto p = static_cast<std::size_t>(at.config.replicas);
    for (std::size_t row = 0; row < w.size(); row += p) {
      double sum = 0;
      for (std::size_t i = 0; i < p; ++i) sum += w[row + i] = std::sqrt(w[row + i]);
      for (std::size_t i = 0; i < p; ++i) w[row + i] /= sum;
    }
    write(at.value, w);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(invented_weights_tempered, "invented-weights-tempered", "aggregation", kInvented,
              make)
