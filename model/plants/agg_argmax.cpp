#include <algorithm>

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
    for (std::size_t row = 0; row < w.size(); row += p) {
      const auto begin = w.begin() + static_cast<std::ptrdiff_t>(row);
      const auto end = begin + static_cast<std::ptrdiff_t>(p);
      const auto best = std::max_element(begin, end);
      for (auto it = begin; it != end; ++it) *it = it == best ? 1 : 0;
    }
    write(at.value, w);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(agg_argmax, "agg-argmax", "aggregation", kListed, make)
