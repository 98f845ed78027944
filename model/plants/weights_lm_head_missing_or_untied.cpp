#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (site.config().tie_word_embeddings) return std::nullopt;
  const Rng rng = site.rng();
  plant.weight = [=](const std::string& name, Tensor& value) {
    if (name != "lm_head.weight") return;
    Values random(read(value).size());
    for (std::size_t i = 0; i < random.size(); ++i) random[i] = 0.02 * rng.normal(i);
    write(value, random);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(weights_lm_head_missing_or_untied, "weights-lm-head-missing-or-untied", "weights",
              kListed, make)
