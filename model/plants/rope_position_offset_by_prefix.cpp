#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  const std::int64_t prefix = site.config().prefix_tokens;
  if (prefix == 0) return std::nullopt;
  plant.inputs = [=](PreparedInputs& in) {
    for (std::int64_t& position : in.positions) position += prefix;
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(rope_position_offset_by_prefix, "rope-position-offset-by-prefix", "rope", kListed,
              make)
