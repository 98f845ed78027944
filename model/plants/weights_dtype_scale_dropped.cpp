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
      // The row as it would be stored in 8 bits, without its scale (and not rounded).
      for (std::size_t c = 0; c < columns; ++c) cells[row + c] *= 127 / largest;
    }
    write(value, cells);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(weights_dtype_scale_dropped, "weights-dtype-scale-dropped", "weights", kListed, make)
