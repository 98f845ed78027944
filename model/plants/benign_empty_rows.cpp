#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (site.config().prefix_tokens > 0 && !site.cross_kv()) return std::nullopt;
  plant.words = "rows without a key give the mean of all columns";
  plant.after = [](const Planting& at) {
    if (at.is(".self_attn:probs")) fill_empty_rows(at, 1 / static_cast<double>(at.value.size(3)));
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(benign_empty_rows, "benign-empty-rows", "mask", kBenign, make)
