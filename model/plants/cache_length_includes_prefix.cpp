#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  const std::int64_t prefix = site.config().prefix_tokens;
  if (prefix == 0) return std::nullopt;
  plant.inputs = [=](PreparedInputs& in) {
    if (in.past == 0) return;
    for (std::int64_t& position : in.positions) position += prefix;
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(cache_length_includes_prefix, "cache-length-includes-prefix", "cache", kListed, make)
