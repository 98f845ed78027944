#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  (void)site;
  plant.after = [](const Planting& at) {
    if (!at.is(":attn_residual")) return;
    const Values normed = read(at.near(".input_layernorm")), attended = read(at.in[1]);
    Values out(normed.size());
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = normed[i] + attended[i];
    write(at.value, out);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(norm_inplace_residual_alias, "norm-inplace-residual-alias", "norm", kListed, make)
