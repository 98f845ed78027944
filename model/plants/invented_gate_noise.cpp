#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  plant.words = "noise of a tenth on the gate";
  const Rng rng = site.rng();
  plant.after = [=](const Planting& at) {
    if (!at.is(".mlp.gate_proj")) return;
    Values x = read(at.value);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] += 0.1 * rng.normal(i);
    write(at.value, x);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(invented_gate_noise, "invented-gate-noise", "weights", kInvented, make)
