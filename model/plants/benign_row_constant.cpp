#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  (void)site;
  plant.words = "a constant is added to whole rows of scores before the softmax";
  plant.after = [](const Planting& at) {
    if (!at.is(".self_attn:probs")) return;
    resoftmax(at, [](double score, bool visible, std::int64_t) {
      return visible ? score + 1 : -HUGE_VAL;
    });
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(benign_row_constant, "benign-row-constant", "mask", kBenign, make)
