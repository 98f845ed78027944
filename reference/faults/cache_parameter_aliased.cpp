#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  // More slots than this call explains, between the right prefix and the right new tokens.
  const std::vector<Point> caches = scene.ops("cache_append");
  if (!scene.solving() || scene.context().past != 0 || caches.empty() ||
      caches.back() != scene.point())
    return;
  const at::Tensor found = scene.observed(), right = scene.expected();
  if (found.dim() != 4 || right.dim() != 4 || found.size(2) <= right.size(2)) return;
  const std::int64_t prefix = scene.config().prefix_tokens, extra = found.size(2) - right.size(2);
  out.push_back({"",
                 {{"slots", std::to_string(extra)}},
                 wrap({scene.point()},
                      [=](const Op& good, const Tensors& in, const Tensors& w) {
                        const at::Tensor all = good.run(in, w);
                        return at::cat(
                            {all.slice(2, 0, prefix),
                             found.slice(2, prefix, prefix + extra).to(all.scalar_type()),
                             all.slice(2, prefix)},
                            2);
                      }),
                 0,
                 true});
}

}  // namespace

extern const FaultSpec cache_parameter_aliased;
const FaultSpec cache_parameter_aliased = {
    {"cache-parameter-aliased", "cache", 2,
     "a fresh cache already holds tokens of an earlier call: it shares its memory with the "
     "parameter or with another cache",
     "clone the prefix into each new cache, and never hand a stored cache out by reference",
     "needs an earlier call in the same process", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
