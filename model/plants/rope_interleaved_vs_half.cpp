#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (site.config().head_dim < 4) return std::nullopt;
  plant.after = [](const Planting& at) {
    const bool keys = at.is(".self_attn:k_rope");
    if (!keys && !at.is(".self_attn:q_rope")) return;
    write(at.value, rotate(rope_input(at, keys), at.points.at("model.rotary_emb:cos"),
                           at.points.at("model.rotary_emb:sin"), Pairs::kAdjacent));
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(rope_interleaved_vs_half, "rope-interleaved-vs-half", "rope", kListed, make)
