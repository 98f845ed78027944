#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (site.config().heads < 3) return std::nullopt;
  const auto dim = static_cast<std::size_t>(site.config().head_dim);
  plant.weight = [=](const std::string& name, Tensor& value) {
    if (!ends(name, ".self_attn.o_proj.weight")) return;
    const Values right = read(value);
    const auto columns = static_cast<std::size_t>(value.shape()[1]);
    Values mixed(right.size());
    for (std::size_t i = 0; i < right.size(); ++i) {
      const std::size_t column = i % columns;
      mixed[i] = right[i - column + (column + dim) % columns];
    }
    write(value, mixed);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(head_perm, "head-perm", "weights", kListed, make)
