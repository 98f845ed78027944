#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (site.config().sliding_window == 0) return std::nullopt;
  // The layers stay what they are; the window is wider than any run.
  plant.config = [](ModelConfig& config) { config.sliding_window = 1 << 20; };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(mask_window_missing, "mask-window-missing", "mask", kListed, make)
