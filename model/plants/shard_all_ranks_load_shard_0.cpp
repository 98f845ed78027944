#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  const std::int64_t heads = site.config().heads;
  if (heads % 2 != 0) return std::nullopt;
  plant.weight = [](const std::string& name, Tensor& value) {  // two ranks
    if (name.find(".self_attn.q_proj.") == std::string::npos) return;
    Values cells = read(value);
    for (std::size_t i = cells.size() / 2; i < cells.size(); ++i)
      cells[i] = cells[i - cells.size() / 2];
    write(value, cells);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(shard_all_ranks_load_shard_0, "shard-all-ranks-load-shard-0", "shard", kListed, make)
