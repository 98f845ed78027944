#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  if (scene.context().past == 0) return;
  const char* words[] = {"an empty slot before the new token", "the last token is overwritten",
                         "the last token is overwritten, the last slot stays empty",
                         "the new token is lost behind an empty slot"};
  for (int way = 0; way < 4; ++way) {
    const BadRun bad = [way](const Op& good, const Tensors& in, const Tensors& w) {
      const at::Tensor right = good.run(in, w), past = in[1];
      const at::Tensor fresh = right.slice(2, past.size(2));
      const at::Tensor empty = at::zeros_like(right.slice(2, 0, 1));
      const at::Tensor shorter = past.slice(2, 0, past.size(2) - 1);
      switch (way) {
        case 0:
          return at::cat({past, empty, fresh}, 2);
        case 1:
          return at::cat({shorter, fresh}, 2);
        case 2:
          return at::cat({shorter, fresh, empty}, 2);
        default:
          return at::cat({past, empty, fresh.slice(2, 0, fresh.size(2) - 1)}, 2);
      }
    };
    // Where the cache itself was not captured, the mask is fitted to the number of slots.
    const BadRun fitted = [](const Op& good, const Tensors& in, const Tensors& w) {
      const std::int64_t keys = in[0].size(-1), columns = in[1].size(-1);
      if (keys == columns) return good.run(in, w);
      if (keys < columns) return good.run({in[0], in[1].slice(-1, columns - keys)}, w);
      const at::Tensor more = in[1].slice(-1, 0, 1).logical_or(at::ones({1}, at::kBool));
      return good.run(
          {in[0],
           at::cat({in[1].slice(-1, 0, columns - 1), more, in[1].slice(-1, columns - 1)}, -1)},
          w);
    };
    for (const Scope& scope : scopes(scene.ops("cache_append"))) {
      out.push_back({joined(words[way], scope.words),
                     {},
                     both(wrap(scope.points, bad), wrap(scene.ops("probs"), fitted))});
    }
  }
}

}  // namespace

extern const FaultSpec cache_hole_or_slot_off_by_one;
const FaultSpec cache_hole_or_slot_off_by_one = {
    {"cache-hole-or-slot-off-by-one", "cache", 4,
     "the new keys and values are written one slot off: a slot stays empty, or the last token is "
     "overwritten",
     "write at the number of tokens in the cache, counted before the append",
     "needs a step with tokens in the cache", true},
    any_model,
    propose};

}  // namespace ps::reference::faults
