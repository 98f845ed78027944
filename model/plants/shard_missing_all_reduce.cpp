#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (site.config().heads % 2 != 0) return std::nullopt;
  plant.weight = [](const std::string& name, Tensor& value) {  // rank 0 of 2
    if (!ends(name, ".self_attn.o_proj.weight")) return;
    Values cells = read(value);
    const auto columns = static_cast<std::size_t>(value.shape()[1]);
    for (std::size_t i = 0; i < cells.size(); ++i)
      if (i % columns >= columns / 2) cells[i] = 0;
    write(value, cells);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(shard_missing_all_reduce, "shard-missing-all-reduce", "shard", kListed, make)
