#include "reference/fault_tools.h"
#include "reference/ops/blocks.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  const std::vector<Point> points = scene.ops("aggregated");
  if (points.empty()) return;
  for (const bool normed : {true, false}) {
    out.push_back({normed ? "" : "and not normed after",
                   {},
                   [points, normed](const Net& net, Overrides& overrides) {
                     Op op = *net.find(points[0]);
                     const Op good = op;
                     op.inputs[1] = layer(net.config().layers - 1);
                     op.weights = {"model.norm.weight"};
                     const double eps = net.config().rms_norm_eps;
                     const Types types = net.context().types;
                     op.run = [=](const Tensors& in, const Tensors& w) {
                       const at::Tensor sum = good.run(in, {});
                       return normed ? rms_norm(sum, w[0], eps, types) : sum;
                     };
                     overrides.insert_or_assign(points[0], std::move(op));
                   }});
  }
}

}  // namespace

extern const FaultSpec agg_before_norm;
const FaultSpec agg_before_norm = {
    {"agg-before-norm", "aggregation", 1,
     "the replicas are summed before the final norm; each must be normed first",
     "apply model.norm to each replica's output, then sum", "needs replicas that differ: a prefix",
     false},
    [](const ModelConfig& c) { return c.replicas > 1; },
    propose};

}  // namespace ps::reference::faults
