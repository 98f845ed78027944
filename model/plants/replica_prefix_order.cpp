#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  const std::int64_t prefix = site.config().prefix_tokens;
  if (prefix == 0 || !site.config().aggregates() || site.cross_kv()) return std::nullopt;
  plant.after = [=](const Planting& at) {
    if (at.inputs.past > 0 || (!at.is(".self_attn:k_cache") && !at.is(".self_attn:v_cache")))
      return;
    const Array here = at.value.narrowed(2, 0, prefix);
    std::vector<std::int64_t> from;  // tiled: row r holds the prefix of replica r mod P
    for (std::int64_t row = 0; row < here.size(0); ++row)
      from.push_back(row % at.config.replicas * at.inputs.batch);
    write(here, rows_at(here, from));
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(replica_prefix_order, "replica-prefix-order", "replica", kListed, make)
