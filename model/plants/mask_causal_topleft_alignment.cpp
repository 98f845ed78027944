#include <algorithm>

#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (site.cross_kv()) return std::nullopt;
  plant.after = [](const Planting& at) {
    if (!is_mask(at)) return;
    const auto& slides = at.config.sliding_layer;  // where all do, model:mask is theirs
    const bool windowed = at.point == "model:mask_sliding" ||
                          std::find(slides.begin(), slides.end(), false) == slides.end();
    const std::int64_t window = windowed ? at.config.sliding_window : 0;
    remask(at, [&](const MaskCell& cell) {
      const bool near = window == 0 || cell.column > cell.query - window;
      return cell.column <= cell.query && near && (cell.key < 0 || cell.real);
    });
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(mask_causal_topleft_alignment, "mask-causal-topleft-alignment", "mask", kListed, make)
