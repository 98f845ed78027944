// down(act(gate(x)) * up(x)).
#include "reference/ops/blocks.h"

namespace ps::reference {

namespace {
at::Tensor activate(Activation activation, const at::Tensor& x) {
  switch (activation) {
    case Activation::kSilu:
      return at::silu(x);
    case Activation::kGelu:
      return at::gelu(x, "none");
    case Activation::kGeluTanh:
      return at::gelu(x, "tanh");
    case Activation::kRelu:
      return at::relu(x);
    case Activation::kRelu2:
      return at::relu(x).square();
    case Activation::kQuickGelu:
      return x * at::sigmoid(1.702 * x);
  }
  return x;
}
}  // namespace

Point feed_forward(Net& net, std::int64_t i, const Point& x) {
  const std::string name = layer(i, "mlp");
  const bool bias = net.config().mlp_bias;
  const Activation activation = net.config().activation;
  const Point gate = linear(net, name + ".gate_proj", x, bias);
  const Point up = linear(net, name + ".up_proj", x, bias);
  const Point act = net.add(
      {name + ":act", "act", {gate, up}, {}, [activation](const Tensors& in, const Tensors&) {
         return activate(activation, in[0]) * in[1];
       }});
  return linear(net, name + ".down_proj", act, bias);
}

}  // namespace ps::reference
