#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (site.config().heads % 2 != 0) return std::nullopt;
  const auto half = static_cast<std::size_t>(site.config().heads * site.config().head_dim / 2);
  plant.weight = [=](const std::string& name, Tensor& value) {
    if (!ends(name, ".self_attn.o_proj.weight")) return;
    const Values right = read(value);
    const auto columns = static_cast<std::size_t>(value.shape()[1]);
    Values mixed(right.size());
    for (std::size_t i = 0; i < right.size(); ++i) {
      const std::size_t column = i % columns;
      mixed[i] = right[i - column + (column + half) % columns];
    }
    write(value, mixed);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(tp_rank_swap_o, "tp-rank-swap-o", "weights", kListed, make)
