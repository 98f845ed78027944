#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  (void)site;
  plant.words = "scores and contexts are summed in double";
  plant.after = [](const Planting& at) {
    const HeadMap of = [&](std::int64_t head) { return head / at.config.group(); };
    if (at.is(".self_attn:scores")) rescore(at, of);
    if (at.is(".self_attn:context")) recontext(at, of);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(benign_summation_order, "benign-summation-order", "numeric", kBenign, make)
