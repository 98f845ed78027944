#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  (void)site;
  plant.after = [](const Planting& at) {
    if (!at.is(".self_attn:probs")) return;
    resoftmax(at, [](double score, bool visible, std::int64_t) {
      return score + (visible ? 0.0 : 1.0) * -HUGE_VAL;
    });
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(mask_zero_times_neginf, "mask-zero-times-neginf", "mask", kListed, make)
