#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  const std::int64_t prefix = site.config().prefix_tokens;
  if (site.cross_kv()) return std::nullopt;
  plant.after = [=](const Planting& at) {
    if (!at.is(".self_attn:k_cache") && !at.is(".self_attn:v_cache")) return;
    if (at.inputs.past > 0 || at.inputs.batch < 2 || at.inputs.tokens < 4) return;
    // Two slots of the first sample hold the last one's tokens (beams of one prompt are alike).
    const Array block = at.value.narrowed(2, prefix + at.inputs.tokens - 3, 2);
    std::vector<std::int64_t> from;
    for (std::int64_t row = 0; row < block.size(0); ++row)
      from.push_back(row % at.inputs.batch == 0 ? row + at.inputs.batch - 1 : row);
    write(block, rows_at(block, from));
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(cache_stale_block_or_hash, "cache-stale-block-or-hash", "cache", kListed, make)
