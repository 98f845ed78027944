#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (site.config().activation != Activation::kSilu) return std::nullopt;
  plant.after = [](const Planting& at) {
    if (!at.is(".mlp:act")) return;
    const Values gate = read(at.near(".mlp.gate_proj")), up = read(at.near(".mlp.up_proj"));
    Values out(gate.size());
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = gate[i] * up[i] / (1 + std::exp(-up[i]));
    write(at.value, out);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(act_on_up, "act-on-up", "weights", kListed, make)
