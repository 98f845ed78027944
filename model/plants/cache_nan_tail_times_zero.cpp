#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  (void)site;
  plant.after = [](const Planting& at) {  // a column more: probability 0 times NaN
    if (at.is(".self_attn:context")) write(at.value, Values(read(at.value).size(), NAN));
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(cache_nan_tail_times_zero, "cache-nan-tail-times-zero", "cache", kListed, make)
