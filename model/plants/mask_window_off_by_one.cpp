#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  const std::int64_t window = site.config().sliding_window;
  if (window == 0) return std::nullopt;
  const bool wider = window == 1 || site.pick(2) == 0;
  plant.words = wider ? "one too wide" : "one too narrow";
  plant.config = [=](ModelConfig& config) { config.sliding_window += wider ? 1 : -1; };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(mask_window_off_by_one, "mask-window-off-by-one", "mask", kListed, make)
