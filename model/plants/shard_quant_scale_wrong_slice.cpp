#include <algorithm>

#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  const ModelConfig& c = site.config();
  if (c.heads % 2 != 0 || c.kv_heads % 2 != 0) return std::nullopt;
  plant.weight = [](const std::string& name, Tensor& value) {
    if (!ends(name, ".self_attn.q_proj.weight")) return;
    Values cells = read(value);
    const auto rows = static_cast<std::size_t>(value.shape()[0]), columns = cells.size() / rows;
    std::vector<double> scale(rows);
    for (std::size_t row = 0; row < rows; ++row) {
      for (std::size_t i = 0; i < columns; ++i)
        scale[row] = std::max(scale[row], std::fabs(cells[row * columns + i]));
    }
    // Rank 1 of 2 takes the scales of rank 0.
    for (std::size_t i = rows / 2 * columns; i < cells.size(); ++i)
      cells[i] *= scale[i / columns - rows / 2] / scale[i / columns];
    write(value, cells);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(shard_quant_scale_wrong_slice, "shard-quant-scale-wrong-slice", "shard", kListed,
              make)
