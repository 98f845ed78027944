#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (!site.config().qkv_bias || site.config().heads % 2 != 0) return std::nullopt;
  plant.weight = [](const std::string& name, Tensor& value) {  // both of 2 ranks have rank 0's
    if (!ends(name, ".self_attn.q_proj.bias")) return;
    Values bias = read(value);
    for (std::size_t i = bias.size() / 2; i < bias.size(); ++i) bias[i] = bias[i - bias.size() / 2];
    write(value, bias);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(shard_column_bias_not_sliced, "shard-column-bias-not-sliced", "shard", kListed, make)
