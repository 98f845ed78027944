#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (!site.config().qk_norm || site.config().kv_heads == 1) return std::nullopt;
  plant.after = [](const Planting& at) {
    if (!at.is(".self_attn.q_norm") && !at.is(".self_attn.k_norm")) return;
    const Values x = read(at.in[0]), weight = read(at.in[1]);
    Values out(x.size());
    const std::size_t dim = weight.size();
    const auto width = static_cast<std::size_t>(at.value.size(2)) * dim;
    for (std::size_t row = 0; row < x.size(); row += width) {
      double sum = 0;
      for (std::size_t i = 0; i < width; ++i) sum += x[row + i] * x[row + i];
      const double scale = 1 / std::sqrt(sum / static_cast<double>(width) + at.config.rms_norm_eps);
      for (std::size_t i = 0; i < width; ++i) out[row + i] = x[row + i] * scale * weight[i % dim];
    }
    write(at.value, out);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(norm_qk_norm_shape, "norm-qk-norm-shape", "norm", kListed, make)
