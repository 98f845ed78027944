#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  (void)site;
  plant.after = [](const Planting& at) {
    if (!at.is("layernorm") && at.point != "model.norm") return;
    const Values x = read(at.in[0]), weight = read(at.in[1]);
    Values out(x.size());
    const std::size_t width = weight.size();
    for (std::size_t row = 0; row < x.size(); row += width) {
      double sum = 0;
      for (std::size_t i = 0; i < width; ++i) sum += x[row + i] * x[row + i];
      const double scale = 1 / std::sqrt(sum / static_cast<double>(width) + at.config.rms_norm_eps);
      for (std::size_t i = 0; i < width; ++i) out[row + i] = x[row + i] * scale * (weight[i] + 1);
    }
    write(at.value, out);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(norm_gain_plus_one, "norm-gain-plus-one", "norm", kListed, make)
