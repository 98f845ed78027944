#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  (void)site;
  plant.reorder = [](std::vector<std::int64_t>& rows, std::int64_t) {
    for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<std::int64_t>(i);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(cache_beam_reorder_skipped, "cache-beam-reorder-skipped", "cache", kListed, make)
