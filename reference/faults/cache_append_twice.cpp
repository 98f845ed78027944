#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  const BadRun twice = [](const Op& good, const Tensors& in, const Tensors& w) {
    const at::Tensor right = good.run(in, w);
    const std::int64_t fresh = in[0].dim() == 3 ? in[0].size(1) : in[0].size(2);
    return at::cat({right, right.slice(2, right.size(2) - fresh)}, 2);
  };
  const std::int64_t fresh = scene.context().length();
  const BadRun fitted = [fresh](const Op& good, const Tensors& in, const Tensors& w) {
    if (in[0].size(-1) == in[1].size(-1)) return good.run(in, w);
    return good.run({in[0], at::cat({in[1], in[1].slice(-1, in[1].size(-1) - fresh)}, -1)}, w);
  };
  for (const Scope& scope : scopes(scene.ops("cache_append"))) {
    out.push_back(
        {scope.words, {}, both(wrap(scope.points, twice), wrap(scene.ops("probs"), fitted))});
  }
}

}  // namespace

extern const FaultSpec cache_append_twice;
const FaultSpec cache_append_twice = {
    {"cache-append-twice", "cache", 1, "the new tokens are appended twice",
     "append once for each layer and step", "needs a step with a cache", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
