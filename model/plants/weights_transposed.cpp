#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  const ModelConfig& c = site.config();
  if (c.heads * c.head_dim != c.hidden_size) return std::nullopt;  // square ones do not throw
  const char* which = site.pick(2) == 0 ? "self_attn.q_proj.weight" : "self_attn.o_proj.weight";
  plant.words = which;
  plant.weight = [=](const std::string& name, Tensor& value) {
    if (!ends(name, which)) return;
    const Values right = read(value);
    Values turned;
    const auto n = static_cast<std::size_t>(value.shape()[0]);
    for (std::size_t i = 0; i < n * n; ++i) turned.push_back(right[i % n * n + i / n]);
    write(value, turned);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(weights_transposed, "weights-transposed", "weights", kListed, make)
