#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (site.dtype() != DType::kF32) return std::nullopt;
  plant.after = [](const Planting& at) {
    if (!at.is(".self_attn:probs")) return;
    resoftmax(at, [](double score, bool visible, std::int64_t) {
      return visible ? through(score, DType::kBF16) : -HUGE_VAL;
    });
    Values probs = read(at.value);
    for (double& p : probs) p = through(p, DType::kBF16);
    write(at.value, probs);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(numeric_softmax_low_precision, "numeric-softmax-low-precision", "numeric", kListed,
              make)
