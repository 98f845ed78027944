#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  (void)site;
  plant.after = [](const Planting& at) {
    if (!at.is(".self_attn:v_cache")) return;
    const std::int64_t fresh = at.inputs.tokens;
    const Array now = at.value.narrowed(2, at.value.size(2) - fresh, fresh);
    write(now, rotate(now, at.points.at("model.rotary_emb:cos"),
                      at.points.at("model.rotary_emb:sin"), Pairs::kHalves));
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(rope_on_v, "rope-on-v", "rope", kListed, make)
