#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  const Rng rng = site.rng();
  plant.after = [=](const Planting& at) {
    if (!at.is(".self_attn:probs")) return;
    constexpr double kDropped = 0.25;
    Values x = read(at.value);
    const std::uint64_t first = std::hash<std::string_view>{}(at.point) % 1000003 * 1000003;
    for (std::size_t i = 0; i < x.size(); ++i)
      x[i] = rng.uniform(first + i) < kDropped ? 0 : x[i] / (1 - kDropped);
    write(at.value, x);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(attention_dropout_in_eval, "attention-dropout-in-eval", "attention", kListed, make)
