#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (site.config().sliding_window == 0) return std::nullopt;
  plant.config = [](ModelConfig& config) { config.sliding_layer.flip(); };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(mask_window_layer_pattern_inverted, "mask-window-layer-pattern-inverted", "mask",
              kListed, make)
