#include <algorithm>

#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  const char* which = site.pick(2) == 0 ? ".self_attn.o_proj.weight" : ".mlp.down_proj.weight";
  plant.words = which;
  plant.weight = [=](const std::string& name, Tensor& value) {
    if (!ends(name, which)) return;
    Values cells = read(value);
    const auto columns = static_cast<std::size_t>(value.shape()[1]);
    for (std::size_t row = 0; row < cells.size(); row += columns) {
      double largest = 0;
      for (std::size_t c = 0; c < columns; ++c)
        largest = std::max(largest, std::fabs(cells[row + c]));
      // A power of two as the row's scale: the numbers as stored, without it.
      const double scale = std::exp2(std::ceil(std::log2(largest))) / 16;
      for (std::size_t c = 0; c < columns; ++c) cells[row + c] /= scale;
    }
    write(value, cells);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(weights_dtype_scale_dropped, "weights-dtype-scale-dropped", "weights", kListed, make)
