#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (!site.config().aggregates()) return std::nullopt;
  plant.reorder = [](std::vector<std::int64_t>& rows, std::int64_t batch) {
    for (std::size_t i = static_cast<std::size_t>(batch); i < rows.size(); ++i)
      rows[i] = static_cast<std::int64_t>(i);  // the first replica's rows alone are moved
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(cache_beam_reorder_no_replicas, "cache-beam-reorder-no-replicas", "cache", kListed,
              make)
