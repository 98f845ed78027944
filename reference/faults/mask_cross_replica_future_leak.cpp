#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  const BadRun all = [](const Op& good, const Tensors& in, const Tensors& w) {
    if (good.kind == "mask_cross_kv") return at::ones_like(good.run(in, w));
    return good.run({in[0], at::ones_like(in[1])}, w);
  };
  std::vector<Point> points;
  for (const Point& point : scene.ops("probs")) {
    if (scene.net().find(point)->inputs[1] == "model:mask_cross_kv") points.push_back(point);
  }
  if (points.empty()) points = scene.ops("mask_cross_kv");
  propose_wrap(scene, out, points, all);
}

}  // namespace

extern const FaultSpec mask_cross_replica_future_leak;
const FaultSpec mask_cross_replica_future_leak = {
    {"mask-cross-replica-future-leak", "mask", 2,
     "attention over the tokens of all replicas has no causal mask: every position of every "
     "replica is visible",
     "query (p, t) sees key (p', j) only for j <= past + t, in every replica p'",
     "needs a cross-KV layer and more than one token", false},
    [](const ModelConfig& c) {
      return c.cross_kv_causal && std::find(c.cross_kv_layer.begin(), c.cross_kv_layer.end(),
                                            true) != c.cross_kv_layer.end();
    },
    propose};

}  // namespace ps::reference::faults
