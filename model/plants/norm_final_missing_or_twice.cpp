#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  const bool twice = site.pick(2) == 0;
  plant.words = twice ? "twice" : "missing";
  plant.after = [=](const Planting& at) {
    if (at.point != "model.norm") return;
    if (!twice) return write(at.value, read(at.in[0]));
    const Values x = read(at.value), weight = read(at.in[1]);
    Values out(x.size());
    const std::size_t width = weight.size();
    for (std::size_t row = 0; row < x.size(); row += width) {
      double sum = 0;
      for (std::size_t i = 0; i < width; ++i) sum += x[row + i] * x[row + i];
      const double scale = 1 / std::sqrt(sum / static_cast<double>(width) + at.config.rms_norm_eps);
      for (std::size_t i = 0; i < width; ++i) out[row + i] = x[row + i] * scale * weight[i];
    }
    write(at.value, out);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(norm_final_missing_or_twice, "norm-final-missing-or-twice", "norm", kListed, make)
