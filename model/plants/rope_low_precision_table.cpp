#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (site.config().rope.kind == RopeKind::kYarn) return std::nullopt;  // its factor is elsewhere
  plant.after = [](const Planting& at) {
    const bool cosine = at.point == "model.rotary_emb:cos";
    if (!cosine && at.point != "model.rotary_emb:sin") return;
    const Values inverse = read(at.points.at("model.rotary_emb:inv_freq"));
    const std::size_t half = inverse.size();
    Values table = read(at.value);
    for (std::size_t i = 0; i < table.size(); ++i) {
      const auto position = static_cast<double>(at.inputs.positions[i / (2 * half)]);
      const double angle = through(
          through(position, DType::kBF16) * through(inverse[i % half], DType::kBF16), DType::kBF16);
      table[i] = cosine ? std::cos(angle) : std::sin(angle);
    }
    write(at.value, table);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(rope_low_precision_table, "rope-low-precision-table", "rope", kListed, make)
