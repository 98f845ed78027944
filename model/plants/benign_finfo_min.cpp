#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  (void)site;
  plant.words = "hidden scores are -1e30, not minus infinity";
  plant.after = [](const Planting& at) {
    if (!at.is(".self_attn:probs")) return;
    // Rows that see nothing come out uniform, as they do where this is how masks are made.
    resoftmax(at, [](double score, bool visible, std::int64_t) { return visible ? score : -1e30; });
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(benign_finfo_min, "benign-finfo-min", "mask", kBenign, make)
