#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  plant.words = "every token has the embedding of the id after it";
  const std::int64_t vocabulary = site.config().vocab_size;
  plant.inputs = [=](PreparedInputs& in) {
    for (std::int64_t& id : in.ids) id = (id + 1) % vocabulary;
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(invented_embedding_next_id, "invented-embedding-next-id", "weights", kInvented, make)
