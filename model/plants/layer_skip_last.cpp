#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (site.config().layers < 2) return std::nullopt;
  plant.config = [](ModelConfig& config) {
    --config.layers;
    config.sliding_layer.pop_back();
    config.cross_layer.pop_back();
    config.cross_kv_layer.pop_back();
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(layer_skip_last, "layer-skip-last", "weights", kListed, make)
