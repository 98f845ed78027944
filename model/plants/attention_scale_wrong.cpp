#include <array>

#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  const ModelConfig& c = site.config();
  const double dim = static_cast<double>(c.head_dim);
  const double wrong = std::array{
      1.0, 1 / dim,
      1 / std::sqrt(static_cast<double>(c.hidden_size))}[static_cast<std::size_t>(site.pick(3))];
  const double factor = wrong * std::sqrt(dim);
  if (factor == 1) return std::nullopt;
  plant.after = [=](const Planting& at) {
    if (!at.is(".self_attn:scores")) return;
    rescore(at, [&](std::int64_t head) { return head / at.config.group(); });
    Values x = read(at.value);
    for (double& cell : x) cell *= factor;
    write(at.value, x);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(attention_scale_wrong, "attention-scale-wrong", "attention", kListed, make)
