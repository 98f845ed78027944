#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  // Without a prefix, whose keys are not turned, the same shift on q and k is benign.
  if (site.config().prefix_tokens == 0) return std::nullopt;
  plant.inputs = [](PreparedInputs& in) {
    for (std::size_t i = 0; i < in.positions.size(); ++i)
      in.positions[i] = in.past + static_cast<std::int64_t>(i) % in.tokens;
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(rope_ragged_batch_scalar_past, "rope-ragged-batch-scalar-past", "rope", kListed, make)
