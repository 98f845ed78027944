#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (site.config().prefix_tokens > 0 && !site.cross_kv()) return std::nullopt;
  plant.after = [](const Planting& at) {
    if (at.is(".self_attn:probs")) fill_empty_rows(at, NAN);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(mask_fully_masked_row_nan, "mask-fully-masked-row-nan", "mask", kListed, make)
