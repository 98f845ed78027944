#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  plant.words = "probabilities are squared and normed again";
  (void)site;
  plant.after = [](const Planting& at) {
    if (!at.is(".self_attn:probs")) return;
    Values x = read(at.value);
    const auto cols = static_cast<std::size_t>(at.value.size(3));
    for (std::size_t row = 0; row < x.size(); row += cols) {
      double sum = 0;
      for (std::size_t c = 0; c < cols; ++c) sum += x[row + c] *= x[row + c];
      for (std::size_t c = 0; c < cols; ++c) x[row + c] = sum > 0 ? x[row + c] / sum : 0;
    }
    write(at.value, x);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(invented_probs_squared, "invented-probs-squared", "attention", kInvented, make)
