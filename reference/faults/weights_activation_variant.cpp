#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  const struct {
    Activation kind;
    const char* name;
    at::Tensor (*f)(const at::Tensor&);
  } kWays[] = {
      {Activation::kSilu, "silu", [](const at::Tensor& x) { return at::silu(x); }},
      {Activation::kGelu, "gelu", [](const at::Tensor& x) { return at::gelu(x, "none"); }},
      {Activation::kGeluTanh, "gelu_pytorch_tanh",
       [](const at::Tensor& x) { return at::gelu(x, "tanh"); }},
      {Activation::kQuickGelu, "quick_gelu",
       [](const at::Tensor& x) { return x * at::sigmoid(1.702 * x); }},
      {Activation::kRelu, "relu", [](const at::Tensor& x) { return at::relu(x); }},
      {Activation::kRelu2, "relu2", [](const at::Tensor& x) { return at::relu(x).square(); }}};
  for (const auto& way : kWays) {
    if (way.kind == scene.config().activation) continue;
    propose_wrap(
        scene, out, scene.ops("act"),
        [f = way.f](const Op&, const Tensors& in, const Tensors&) { return f(in[0]) * in[1]; }, "",
        {{"activation", "\"" + std::string(way.name) + "\""}});
  }
}

}  // namespace

extern const FaultSpec weights_activation_variant;
const FaultSpec weights_activation_variant = {
    {"weights-activation-variant", "weights", 4,
     "another activation function is used than the config's hidden_act",
     "map hidden_act by name: silu, gelu (erf), gelu_new and gelu_pytorch_tanh (tanh), quick_gelu, "
     "relu",
     "erf and tanh gelu differ by at most 5e-4: needs a run in float32", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
