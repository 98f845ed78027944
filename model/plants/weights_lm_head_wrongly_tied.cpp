#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (site.config().tie_word_embeddings) return std::nullopt;
  const Values embedding = site.stored("model.embed_tokens.weight");
  plant.weight = [=](const std::string& name, Tensor& value) {
    if (name == "lm_head.weight") write(value, embedding);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(weights_lm_head_wrongly_tied, "weights-lm-head-wrongly-tied", "weights", kListed,
              make)
