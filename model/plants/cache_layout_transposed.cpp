#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (site.config().kv_heads == 1) return std::nullopt;
  plant.after = [](const Planting& at) {
    if (!at.is(".self_attn:k_cache") && !at.is(".self_attn:v_cache")) return;
    const std::int64_t fresh = at.inputs.tokens;
    const Array now = at.value.narrowed(2, at.value.size(2) - fresh, fresh);
    write(now, read(now.transposed(1, 2)));  // a [row, token, head, dim] buffer, not turned
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(cache_layout_transposed, "cache-layout-transposed", "cache", kListed, make)
