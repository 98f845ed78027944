// The gate over the replicas (parscale.md 3.8).
#include "reference/ops/blocks.h"
#include "reference/weights.h"

namespace ps::reference {

Point aggregate(Net& net, const Point& y) {
  const std::int64_t p = net.config().replicas;
  const double smooth = net.config().attn_smooth;
  const Types types = net.context().types;
  if (p == 1) {  // the sum is that replica, and there is no gate
    return net.add(
        {"model:aggregated", "aggregated", {y}, {}, [](const Tensors& in, const Tensors&) {
           return in[0];
         }});
  }
  const auto by_replica = [p](const at::Tensor& x) {  // [P,B,S,h]
    return x.view({p, x.size(0) / p, x.size(1), x.size(2)});
  };
  const Point z = net.add(
      {"model:aggregate_input", "aggregate_input", {y}, {}, [=](const Tensors& in, const Tensors&) {
         // Feature h*P + p: hidden outside, replica inside.
         const at::Tensor x = by_replica(in[0]).permute({1, 2, 3, 0});
         return x.reshape({x.size(0), x.size(1), -1});
       }});
  const Point first = linear(net, "model.aggregate_layer.0", z, true);
  // Between the two maps stands a SiLU, whatever hidden_act says.
  const Point second = net.add({"model.aggregate_layer.2",
                                "linear_of_silu",
                                {first},
                                {"model.aggregate_layer.2.weight", "model.aggregate_layer.2.bias"},
                                [](const Tensors& in, const Tensors& w) {
                                  return linear_map(at::silu(in[0]), w[0], w[1]);
                                }});
  const Point weights = net.add({"model:aggregate_weights",
                                 "aggregate_weights",
                                 {second},
                                 {},
                                 [=](const Tensors& in, const Tensors&) {
                                   const at::Tensor w = at::softmax(in[0].to(types.island), -1);
                                   if (smooth == 0.0) return w;
                                   return w * (1.0 - smooth) + smooth / static_cast<double>(p);
                                 }});
  return net.add(
      {"model:aggregated", "aggregated", {weights, y}, {}, [=](const Tensors& in, const Tensors&) {
         const at::Tensor w = in[0].permute({2, 0, 1}).unsqueeze(-1);  // [P,B,S,1]
         return (by_replica(in[1]).to(types.island) * w).sum(0).to(types.model);
       }});
}

}  // namespace ps::reference
