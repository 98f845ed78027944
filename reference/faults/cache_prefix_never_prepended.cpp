#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  const std::int64_t prefix = scene.config().prefix_tokens;
  const BadRun without = [prefix](const Op& good, const Tensors& in, const Tensors& w) {
    return good.run(in, w).slice(2, prefix);
  };
  const std::vector<Point> caches = scene.ops("cache_append"), probs = scene.ops("probs");
  // With no prefix keys the mask must lose columns too: the prefix's, or, where it is cut to the
  // number of keys, its last ones.
  for (const bool cut : {false, true}) {
    const BadRun narrow = [cut](const Op& good, const Tensors& in, const Tensors& w) {
      const std::int64_t keys = in[0].size(-1), columns = in[1].size(-1);
      if (columns <= keys) return good.run(in, w);
      return good.run({in[0], cut ? in[1].slice(-1, 0, keys) : in[1].slice(-1, columns - keys)}, w);
    };
    out.push_back({cut ? "and the mask is still widened by it" : "",
                   {},
                   both(wrap(caches, without), wrap(probs, narrow))});
    if (probs.empty()) break;
  }
}

}  // namespace

extern const FaultSpec cache_prefix_never_prepended;
const FaultSpec cache_prefix_never_prepended = {
    {"cache-prefix-never-prepended", "cache", 3, "the prefix is missing from the keys and values",
     "put prefix_k and prefix_v in front whether or not a cache is kept", "needs a prefix", false},
    [](const ModelConfig& c) { return c.prefix_tokens > 0; },
    propose};

}  // namespace ps::reference::faults
