#include "model/plant_tools.h"

namespace ps {
namespace {

std::optional<Plant> make(PlantSite& site) {
  Plant plant;
  (void)site;
  plant.after = [](const Planting& at) {
    if (!at.is(".self_attn:k_cache") && !at.is(".self_attn:v_cache")) return;
    const std::int64_t past = at.inputs.past, fresh = at.inputs.tokens, slots = at.value.size(2);
    if (past == 0) return;
    // Written one slot too early; the last slot is as it was allocated.
    const Values now = read(at.value.narrowed(2, slots - fresh, fresh));
    write(at.value.narrowed(2, slots - fresh - 1, fresh), now);
    const Array last = at.value.narrowed(2, slots - 1, 1);
    write(last, Values(static_cast<std::size_t>(last.count()), 0.0));
  };
  return plant;
}

}  // namespace
}  // namespace ps

PS_PLANT_KIND(cache_hole_or_slot_off_by_one, "cache-hole-or-slot-off-by-one", "cache", kListed,
              make)
