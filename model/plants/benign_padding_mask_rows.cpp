#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (site.cross_kv()) return std::nullopt;
  plant.words = "queries that are padding see every key";
  plant.after = [](const Planting& at) {
    if (!is_mask(at)) return;
    const std::int64_t keys = at.inputs.keys;
    remask(at, [&](const MaskCell& cell) {
      const auto own = static_cast<std::size_t>(cell.sample * keys + cell.place);
      return cell.visible || at.inputs.key_valid[own] == 0;
    });
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(benign_padding_mask_rows, "benign-padding-mask-rows", "mask", kBenign, make)
