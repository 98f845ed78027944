#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (!site.config().o_bias || site.config().heads % 2 != 0) return std::nullopt;
  plant.weight = [](const std::string& name, Tensor& value) {  // two ranks
    if (!ends(name, ".self_attn.o_proj.bias")) return;
    Values bias = read(value);
    for (double& x : bias) x *= 2;
    write(value, bias);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(shard_row_bias_every_rank, "shard-row-bias-every-rank", "shard", kListed, make)
