#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (site.config().kv_heads == 1) return std::nullopt;
  plant.after = [](const Planting& at) {
    const HeadMap of = [](std::int64_t) { return 0; };
    if (at.is(".self_attn:scores")) rescore(at, of);
    if (at.is(".self_attn:context")) recontext(at, of);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(attention_gqa_wrong_index, "attention-gqa-wrong-index", "attention", kListed, make)
