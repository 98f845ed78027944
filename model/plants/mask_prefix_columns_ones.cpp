#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  const std::int64_t prefix = site.config().prefix_tokens;
  if (prefix == 0 || site.cross_kv()) return std::nullopt;
  plant.after = [=](const Planting& at) {
    if (!at.is(".self_attn:probs")) return;
    resoftmax(at, [&](double score, bool visible, std::int64_t column) {
      return !visible ? -HUGE_VAL : score + (column < prefix ? 1 : 0);
    });
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(mask_prefix_columns_ones, "mask-prefix-columns-ones", "mask", kListed, make)
