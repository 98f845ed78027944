#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  plant.words = "every other token has the context of the one before";
  if (site.cross_kv()) return std::nullopt;
  plant.after = [](const Planting& at) {
    if (!at.is(".self_attn:context") || at.value.size(2) < 2) return;
    for (std::int64_t t = 1; t < at.value.size(2); t += 2)
      write(at.value.narrowed(2, t, 1), read(at.value.narrowed(2, t - 1, 1)));
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(invented_context_of_token_before, "invented-context-of-token-before", "attention",
              kInvented, make)
