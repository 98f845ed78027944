#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (site.config().kv_heads == 1 || site.config().group() == 1) return std::nullopt;
  plant.after = [](const Planting& at) {
    const HeadMap of = [&](std::int64_t head) { return head % at.config.kv_heads; };
    if (at.is(".self_attn:scores")) rescore(at, of);
    if (at.is(".self_attn:context")) recontext(at, of);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(attention_gqa_repeat_vs_interleave, "attention-gqa-repeat-vs-interleave", "attention",
              kListed, make)
