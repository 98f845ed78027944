#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (site.config().heads % 2 != 0) return std::nullopt;
  const char* which = site.pick(2) == 0 ? ".self_attn.o_proj.weight" : ".mlp.down_proj.weight";
  plant.words = which;
  plant.weight = [=](const std::string& name, Tensor& value) {  // two ranks
    if (!ends(name, which)) return;
    Values cells = read(value);
    for (double& x : cells) x *= 2;
    write(value, cells);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(shard_double_all_reduce, "shard-double-all-reduce", "shard", kListed, make)
