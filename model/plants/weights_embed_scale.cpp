#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  const double scale = std::sqrt(static_cast<double>(site.config().hidden_size));
  plant.after = [=](const Planting& at) {
    const bool replicas = at.point == "model:replicated";
    if (!replicas && at.point != "model.embed_tokens") return;
    // The first rows of the replicated value are the embedding itself, and scaled already.
    const std::int64_t batch = at.inputs.batch, rows = at.value.size(0);
    const Array here = replicas ? at.value.narrowed(0, batch, rows - batch) : at.value;
    Values x = read(here);
    for (double& cell : x) cell *= scale;
    write(here, x);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(weights_embed_scale, "weights-embed-scale", "weights", kListed, make)
