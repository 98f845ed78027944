#include "reference/fault_tools.h"
#include "reference/ops/blocks.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  const StepContext& now = scene.context();
  if (now.past == 0) return;
  const at::Tensor past = scene.value(past_of(layer(0, "self_attn:k_cache")));
  if (!past.defined() || past.dim() != 4) return;
  const at::Tensor zero =
      past.slice(2, scene.config().prefix_tokens).abs().amax({1, 3}).eq(0);  // [R,past]
  if (!zero.any().item<bool>()) return;
  const at::Tensor first = at::where(zero.any(1), zero.to(at::kLong).argmax(1),
                                     at::full({zero.size(0)}, now.past, at::kLong));
  RopeChange change;
  change.positions = [first](const StepContext& c) {
    return first.unsqueeze(1) + at::arange(c.length(), at::kLong).unsqueeze(0);
  };
  propose_tables(scene, out, change, "", {});
}

}  // namespace

extern const FaultSpec cache_zero_test_length;
const FaultSpec cache_zero_test_length = {{"cache-zero-test-length", "cache", 2,
                                           "the cache's length is taken as its first all-zero key, "
                                           "and an earlier key is zero: positions are too small",
                                           "keep the length beside the cache; a key may be zero",
                                           "needs a cached key that is zero", true},
                                          any_model,
                                          propose};

}  // namespace ps::reference::faults
