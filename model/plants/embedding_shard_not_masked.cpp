#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (site.config().tie_word_embeddings) return std::nullopt;
  plant.weight = [](const std::string& name, Tensor& value) {
    if (name != "model.embed_tokens.weight") return;
    // Two ranks: the one that does not hold a token adds the first row that it has.
    const Values right = read(value);
    Values sum = right;
    const auto vocabulary = static_cast<std::size_t>(value.shape()[0]);
    const auto width = static_cast<std::size_t>(value.shape()[1]), half = (vocabulary + 1) / 2;
    for (std::size_t i = 0; i < sum.size(); ++i)
      sum[i] += right[(i / width < half ? half * width : 0) + i % width];
    write(value, sum);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(embedding_shard_not_masked, "embedding-shard-not-masked", "shard", kListed, make)
