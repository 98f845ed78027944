#include <algorithm>

#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (site.config().heads == 1 || site.cross_kv()) return std::nullopt;
  plant.after = [](const Planting& at) {
    if (!at.is(".self_attn:probs")) return;
    // Row r and head h use the mask of row (r * heads + h) mod rows.
    const Array &scores = at.in[0], &mask = at.in[1];
    const Values right = read(mask);
    const std::int64_t queries = scores.size(2), cols = scores.size(3);
    Values x = read(scores);
    for (std::int64_t line = 0; line < scores.count() / cols; ++line) {
      const std::int64_t fused = line / queries % mask.size(0), q = line % queries;
      double largest = -HUGE_VAL, sum = 0;
      double* row = x.data() + line * cols;
      for (std::int64_t c = 0; c < cols; ++c) {
        const bool seen = right[static_cast<std::size_t>((fused * queries + q) * cols + c)] != 0;
        row[c] = seen ? row[c] : -HUGE_VAL;
        largest = std::max(largest, row[c]);
      }
      for (std::int64_t c = 0; c < cols; ++c) sum += row[c] = std::exp(row[c] - largest);
      for (std::int64_t c = 0; c < cols; ++c) row[c] = largest == -HUGE_VAL ? 0 : row[c] / sum;
    }
    write(at.value, x);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(mask_heads_batch_order, "mask-heads-batch-order", "mask", kListed, make)
