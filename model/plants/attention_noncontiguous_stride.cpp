#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (site.config().heads == 1 || site.cross_kv()) return std::nullopt;
  plant.after = [](const Planting& at) {
    if (!at.is(".self_attn:context")) return;
    // [row, head, token, dim] as it lies, taken for [row, token, head, dim].
    const Values right = read(at.value);
    const std::int64_t heads = at.value.size(1), tokens = at.value.size(2), dim = at.value.size(3);
    Values mixed(right.size());
    for (std::size_t i = 0; i < right.size(); ++i) {
      const auto at_row = static_cast<std::int64_t>(i) % (heads * tokens * dim);
      const std::int64_t h = at_row / (tokens * dim), t = at_row / dim % tokens, d = at_row % dim;
      mixed[i] = right[i - static_cast<std::size_t>(at_row) +
                       static_cast<std::size_t>((t * heads + h) * dim + d)];
    }
    write(at.value, mixed);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(attention_noncontiguous_stride, "attention-noncontiguous-stride", "attention",
              kListed, make)
