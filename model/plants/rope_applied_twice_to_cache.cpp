#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (site.config().head_dim < 4) return std::nullopt;
  const std::int64_t prefix = site.config().prefix_tokens;
  const double base = site.config().rope.theta;
  if (site.config().rope.kind != RopeKind::kDefault || site.cross_kv()) return std::nullopt;
  plant.after = [=](const Planting& at) {
    if (!at.is(".self_attn:k_cache") || at.inputs.past == 0) return;
    // What was cached is rotated again, by 0 .. past-1, when it is read.
    const Array old = at.value.narrowed(2, prefix, at.inputs.past);
    Values u = read(old);
    const std::int64_t dim = old.size(3), half = dim / 2;
    for (std::int64_t line = 0; line < old.count() / dim; ++line) {
      double* x = u.data() + line * dim;
      for (std::int64_t j = 0; j < half; ++j) {
        const double angle = static_cast<double>(line % at.inputs.past) *
                             std::pow(base, -2 * static_cast<double>(j) / static_cast<double>(dim));
        const double a = x[j], b = x[j + half];
        x[j] = a * std::cos(angle) - b * std::sin(angle);
        x[j + half] = b * std::cos(angle) + a * std::sin(angle);
      }
    }
    write(old, u);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(rope_applied_twice_to_cache, "rope-applied-twice-to-cache", "rope", kListed, make)
