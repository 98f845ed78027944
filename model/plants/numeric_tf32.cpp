#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (site.dtype() != DType::kF32) return std::nullopt;
  plant.after = [](const Planting& at) {
    if (!at.is("_proj")) return;
    const auto shortened = [](Values values) {  // to 10 bits behind the point
      for (double& x : values) {
        int exponent = 0;
        const double mantissa = std::frexp(x, &exponent);
        x = std::ldexp(std::nearbyint(std::ldexp(mantissa, 11)), exponent - 11);
      }
      return values;
    };
    const Values x = shortened(read(at.in[0])), weight = shortened(read(at.in[1]));
    const Values bias = at.in[2] ? read(at.in[2]) : Values();
    const auto width = static_cast<std::size_t>(at.in[1].size(1)), outs = weight.size() / width;
    Values out;
    for (std::size_t row = 0; row < x.size() / width; ++row) {
      for (std::size_t o = 0; o < outs; ++o) {
        double sum = bias.empty() ? 0 : bias[o];
        for (std::size_t i = 0; i < width; ++i) sum += x[row * width + i] * weight[o * width + i];
        out.push_back(sum);
      }
    }
    write(at.value, out);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(numeric_tf32, "numeric-tf32", "numeric", kListed, make)
