#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  if (!site.weighs()) return std::nullopt;
  const auto p = static_cast<std::size_t>(site.config().replicas);
  const auto h = static_cast<std::size_t>(site.config().hidden_size);
  plant.weight = [=](const std::string& name, Tensor& value) {
    if (name != "model.aggregate_layer.0.weight") return;
    const Values right = read(value);
    Values mixed(right.size());
    for (std::size_t i = 0; i < right.size(); ++i) {
      const std::size_t column = i % (h * p);  // (h p); read as (p h)
      mixed[i] = right[i - column + column % p * h + column / p];
    }
    write(value, mixed);
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(aggregation_branch_order, "aggregation-branch-order", "aggregation", kListed, make)
