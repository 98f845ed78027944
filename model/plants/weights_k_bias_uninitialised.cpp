#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (!site.config().qkv_bias) return std::nullopt;
  const Rng rng = site.rng();
  plant.weight = [=](const std::string& name, Tensor& value) {
    if (!ends(name, "self_attn.k_proj.bias")) return;
    Values bias = read(value);
    for (std::size_t i = 0; i < bias.size(); ++i) bias[i] = 5 * rng.normal(i);
    write(value, bias);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(weights_k_bias_uninitialised, "weights-k-bias-uninitialised", "weights", kListed,
              make)
