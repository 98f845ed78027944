#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  const std::int64_t dim = site.config().head_dim;
  if (dim < 4) return std::nullopt;
  plant.weight = [=](const std::string& name, Tensor& value) {
    if (name.find(".self_attn.q_proj.") == std::string::npos &&
        name.find(".self_attn.k_proj.") == std::string::npos) {
      return;
    }
    const Values right = read(value);
    const std::int64_t rows = value.shape()[0];
    const std::size_t width = right.size() / static_cast<std::size_t>(rows);
    Values mixed;
    for (std::int64_t row = 0; row < rows; ++row) {
      const std::int64_t head = row / dim, d = row % dim;
      // Even rows first, odd rows behind: the layout of adjacent pairs turned into halves.
      const std::int64_t from = head * dim + (d < dim / 2 ? 2 * d : 2 * (d - dim / 2) + 1);
      const auto begin = right.begin() + from * static_cast<std::ptrdiff_t>(width);
      mixed.insert(mixed.end(), begin, begin + static_cast<std::ptrdiff_t>(width));
    }
    write(value, mixed);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(rope_permute_skipped, "rope-permute-skipped", "rope", kListed, make)
