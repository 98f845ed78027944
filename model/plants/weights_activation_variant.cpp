#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  const Activation right = site.config().activation;
  const Activation wrong = right == Activation::kSilu   ? Activation::kGeluTanh
                           : right == Activation::kGelu ? Activation::kQuickGelu
                                                        : Activation::kSilu;
  plant.config = [=](ModelConfig& config) { config.activation = wrong; };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(weights_activation_variant, "weights-activation-variant", "weights", kListed, make)
