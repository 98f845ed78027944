#include "reference/fault_tools.h"
#include "reference/ops/blocks.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  std::vector<Point> points;
  for (const Point& point : scene.ops("residual")) {
    if (!point.ends_with(":cross_residual")) points.push_back(point);
  }
  for (const Scope& scope : scopes(points)) {
    for (int which = 0; which < (scope.points.size() > 1 ? 3 : 1); ++which) {
      const std::vector<Point> where = scope.points;
      const Edit edit = [where, which](const Net& net, Overrides& overrides) {
        for (const Point& point : where) {
          const bool attention = point.ends_with(":attn_residual");
          if ((which == 1 && !attention) || (which == 2 && attention)) continue;
          Op op = *net.find(point);
          op.inputs[0] =
              layer(layer_of(point), attention ? "input_layernorm" : "post_attention_layernorm");
          overrides.insert_or_assign(point, std::move(op));
        }
      };
      const char* words[] = {"", "after attention", "after the feed-forward"};
      out.push_back({joined(words[which], scope.words), {}, edit});
    }
  }
}

}  // namespace

extern const FaultSpec norm_inplace_residual_alias;
const FaultSpec norm_inplace_residual_alias = {
    {"norm-inplace-residual-alias", "norm", 4,
     "the residual is the normed input: the norm wrote into the buffer that the residual still "
     "needed",
     "norm into another buffer, or clone the residual first", "always visible", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
