#include "model/plant.h"

#include <algorithm>

namespace ps {

namespace planted {
#define PS_PLANT(name) extern const PlantKind name;
#include "model/plants/plants.def"
#undef PS_PLANT
}  // namespace planted

namespace {

const std::vector<const PlantKind*>& kinds() {
  static const std::vector<const PlantKind*> all = {
#define PS_PLANT(name) &planted::name,
#include "model/plants/plants.def"
#undef PS_PLANT
  };
  return all;
}

}  // namespace

const Array& Planting::near(std::string_view suffix) const {
  constexpr std::string_view kLayers = "model.layers.";
  PS_CHECK(point.starts_with(kLayers), std::string(point) + " is in no layer");
  const std::size_t end = point.find_first_not_of("0123456789", kLayers.size());
  const auto it = points.find(std::string(point.substr(0, end)) + std::string(suffix));
  PS_CHECK(it != points.end(), std::string(suffix) + " was not computed before");
  return it->second;
}

std::vector<double> PlantSite::stored(const std::string& tensor) const {
  const TensorView* view = model_.checkpoint->peek(tensor);
  PS_CHECK(view != nullptr, "no tensor " + tensor);
  std::vector<double> out(static_cast<std::size_t>(view->count()));
  to_doubles(*view, out);
  return out;
}

bool PlantSite::cross_kv() const {
  const auto& layers = config().cross_kv_layer;
  return std::find(layers.begin(), layers.end(), true) != layers.end();
}

std::vector<PlantInfo> plants() {
  std::vector<PlantInfo> out;
  for (const PlantKind* kind : kinds()) out.push_back(kind->info);
  return out;
}

Result<std::string> plant_fits(const Model& model, DType dtype, const PlantChoice& choice) {
  PS_TRY(const Plant plant, make_plant(model, dtype, choice));
  return plant.words;
}

Result<Plant> make_plant(const Model& model, DType dtype, const PlantChoice& choice) {
  for (const PlantKind* kind : kinds()) {
    if (kind->info.id != choice.id) continue;
    PlantSite site(model, dtype, choice.seed);
    std::optional<Plant> plant = kind->make(site);
    if (!plant) return bad_input("plant", "this model cannot have it", {}, choice.id);
    return std::move(*plant);
  }
  return bad_input("plant", "unknown", "an id of plants()", choice.id);
}

}  // namespace ps
