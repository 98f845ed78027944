#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  propose_wrap(scene, out, scene.ops("cache_append"),
               [](const Op& good, const Tensors& in, const Tensors& w) {
                 if (w.empty()) return good.run(in, w);
                 return good.run(in, {at::zeros_like(w[0])});
               });
}

}  // namespace

extern const FaultSpec cache_prefix_zero_placeholder;
const FaultSpec cache_prefix_zero_placeholder = {
    {"cache-prefix-zero-placeholder", "cache", 2,
     "the cache's prefix columns are zero: the learned prefix was never filled in",
     "copy prefix_k and prefix_v into the cache when it is made", "needs a prefix", false},
    [](const ModelConfig& c) { return c.prefix_tokens > 0; },
    propose};

}  // namespace ps::reference::faults
