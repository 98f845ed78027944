#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (site.config().prefix_tokens == 0 || site.dtype() != DType::kF32) return std::nullopt;
  plant.weight = [](const std::string& name, Tensor& value) {
    if (name.find(".self_attn.prefix_") == std::string::npos) return;
    Values cells = read(value);
    for (double& x : cells) x = through(x, DType::kBF16);
    write(value, cells);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(numeric_dtype_mismatch_parameter, "numeric-dtype-mismatch-parameter", "numeric",
              kListed, make)
