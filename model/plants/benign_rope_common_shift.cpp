#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (site.config().prefix_tokens > 0) return std::nullopt;
  plant.words = "padded rows are turned by their padding more, queries and keys alike";
  plant.inputs = [](PreparedInputs& in) {
    for (std::size_t i = 0; i < in.positions.size(); ++i)
      in.positions[i] = in.past + static_cast<std::int64_t>(i) % in.tokens;
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(benign_rope_common_shift, "benign-rope-common-shift", "rope", kBenign, make)
