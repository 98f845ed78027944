#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  plant.words = "rows are divided by their mean absolute value";
  (void)site;
  plant.after = [](const Planting& at) {
    if (!at.is(".post_attention_layernorm")) return;
    const Values x = read(at.in[0]), weight = read(at.in[1]);
    Values out(x.size());
    const std::size_t width = weight.size();
    for (std::size_t row = 0; row < x.size(); row += width) {
      double sum = 0;
      for (std::size_t i = 0; i < width; ++i) sum += std::fabs(x[row + i]);
      for (std::size_t i = 0; i < width; ++i)
        out[row + i] = x[row + i] * static_cast<double>(width) / sum * weight[i];
    }
    write(at.value, out);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(invented_norm_by_mean_abs, "invented-norm-by-mean-abs", "norm", kInvented, make)
