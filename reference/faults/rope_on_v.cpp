#include "reference/fault_tools.h"
#include "reference/ops/blocks.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  for (const Scope& scope : scopes(scene.ops("cache_append", ":v_cache"))) {
    const std::vector<Point> points = scope.points;
    out.push_back({scope.words, {}, [points](const Net& net, Overrides& overrides) {
                     for (const Point& point : points) {
                       Op op = *net.find(point);
                       const Op good = op;
                       const std::size_t cos = op.inputs.size();
                       op.inputs.push_back("model.rotary_emb:cos");
                       op.inputs.push_back("model.rotary_emb:sin");
                       const std::int64_t kv = net.config().kv_heads;
                       op.run = [good, cos, kv](const Tensors& in, const Tensors& w) {
                         Tensors right(in.begin(), in.begin() + static_cast<std::ptrdiff_t>(cos));
                         right[0] = join_heads(rotate(split_heads(in[0], kv), in[cos].unsqueeze(1),
                                                      in[cos + 1].unsqueeze(1)));
                         return good.run(right, w);
                       };
                       overrides.insert_or_assign(point, std::move(op));
                     }
                   }});
  }
}

}  // namespace

extern const FaultSpec rope_on_v;
const FaultSpec rope_on_v = {
    {"rope-on-v", "rope", 1, "the values are rotated as well; only queries and keys may be",
     "apply the rotation to q and k only", "needs a position other than 0", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
