#include "reference/fault_tools.h"
#include "reference/ops/blocks.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  for (const Scope& scope : scopes(scene.ops("rope"))) {
    const std::vector<Point> where = scope.points;
    out.push_back({scope.words, {}, [where](const Net& net, Overrides& overrides) {
                     for (const Point& point : where) {
                       Op rope = *net.find(point);
                       const Op normed = *net.find(rope.inputs[0]);
                       const Op good = rope;
                       rope.inputs[0] = normed.inputs[0];
                       rope.weights = normed.weights;
                       const double eps = net.config().rms_norm_eps;
                       const Types types = net.context().types;
                       const std::int64_t head = net.config().head_dim;
                       rope.run = [=](const Tensors& in, const Tensors& w) {
                         const at::Tensor x = in[0];
                         const at::Tensor heads = x.view({x.size(0), x.size(1), -1, head});
                         const at::Tensor turned = good.run({heads, in[1], in[2]}, {});
                         return rms_norm(turned, w[0], eps, types);
                       };
                       overrides.insert_or_assign(point, std::move(rope));
                     }
                   }});
  }
  // Where the norm's own output was captured: it is the norm of rotated heads.
  std::vector<Point> norms = scene.ops("rms_norm", ".q_norm");
  const std::vector<Point> keys = scene.ops("rms_norm", ".k_norm");
  norms.insert(norms.end(), keys.begin(), keys.end());
  if (norms.empty() || norms.back() != scene.point()) return;
  out.push_back(
      {"", {}, [norms](const Net& net, Overrides& overrides) {
         for (const Point& point : norms) {
           Op op = *net.find(point);
           const Op good = op;
           op.inputs.insert(op.inputs.end(), {"model.rotary_emb:cos", "model.rotary_emb:sin"});
           const std::int64_t head = net.config().head_dim;
           op.run = [good, head](const Tensors& in, const Tensors& w) {
             const at::Tensor x = in[0];
             const at::Tensor heads = split_heads(x, x.size(-1) / head);
             const at::Tensor turned = rotate(heads, in[1].unsqueeze(1), in[2].unsqueeze(1));
             return good.run({join_heads(turned)}, w);
           };
           overrides.insert_or_assign(point, std::move(op));
         }
       }});
}

}  // namespace

extern const FaultSpec qknorm_after_rope;
const FaultSpec qknorm_after_rope = {
    {"qknorm-after-rope", "norm", 1,
     "queries and keys are rotated first and normed after; this model norms first",
     "norm q and k before the rotation", "needs norms on q and k whose weights are not all equal",
     false},
    [](const ModelConfig& c) { return c.qk_norm; },
    propose};

}  // namespace ps::reference::faults
