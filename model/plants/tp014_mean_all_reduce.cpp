#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  const std::int64_t tp = site.config().heads % 4 == 0 && site.pick(2) == 0 ? 4 : 2;
  if (site.config().heads % tp != 0) return std::nullopt;
  const char* which = site.pick(2) == 0 ? ".self_attn.o_proj.weight" : ".mlp.down_proj.weight";
  plant.words = which;
  plant.weight = [=](const std::string& name, Tensor& value) {
    if (!ends(name, which)) return;
    Values cells = read(value);
    for (double& x : cells) x /= static_cast<double>(tp);
    write(value, cells);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(tp014_mean_all_reduce, "TP014", "shard", kListed, make)
