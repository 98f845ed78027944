#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  const std::int64_t p = scene.config().replicas;
  propose_wrap(
      scene, out, scene.ops("aggregate_input"), [p](const Op&, const Tensors& in, const Tensors&) {
        const at::Tensor x =
            in[0].view({p, in[0].size(0) / p, in[0].size(1), in[0].size(2)}).permute({1, 2, 0, 3});
        return x.reshape({x.size(0), x.size(1), -1});
      });
  // Or the first map's columns were permuted that way.
  propose_wrap(
      scene, out, scene.ops("linear", "model.aggregate_layer.0"),
      [p](const Op& good, const Tensors& in, const Tensors& w) {
        const at::Tensor z = in[0];
        const at::Tensor other =
            z.view({z.size(0), z.size(1), -1, p}).transpose(2, 3).reshape(z.sizes());
        return good.run({other}, w);
      },
      "in the columns of aggregate_layer.0");
}

}  // namespace

extern const FaultSpec aggregation_branch_order;
const FaultSpec aggregation_branch_order = {
    {"aggregation-branch-order", "aggregation", 1,
     "the aggregator's input lies replica by replica (p h); its weights expect hidden unit by "
     "hidden unit (h p)",
     "arrange the replicas' outputs as feature h*P + p", "needs replicas that differ: a prefix",
     false},
    [](const ModelConfig& c) { return c.replicas > 1; },
    propose};

}  // namespace ps::reference::faults
