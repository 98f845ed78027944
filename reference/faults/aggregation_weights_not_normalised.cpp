#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  const double s = scene.config().attn_smooth;
  const struct {
    const char* words;
    std::function<at::Tensor(const at::Tensor&)> weights;
  } kWays[] = {{"the smoothing term is not divided by P",
                [s](const at::Tensor& a) { return at::softmax(a, -1) * (1.0 - s) + s; }},
               {"the smoothing term is missing",
                [s](const at::Tensor& a) { return at::softmax(a, -1) * (1.0 - s); }},
               {"the softmax keeps its whole weight beside the smoothing",
                [s, p = static_cast<double>(scene.config().replicas)](const at::Tensor& a) {
                  return at::softmax(a, -1) + s / p;
                }},
               {"the logits themselves", [](const at::Tensor& a) { return a; }},
               {"exp without its sum", [](const at::Tensor& a) { return at::exp(a); }},
               {"sigmoid", [](const at::Tensor& a) { return at::sigmoid(a); }}};
  for (const auto& way : kWays) {
    propose_wrap(
        scene, out, scene.ops("aggregate_weights"),
        [f = way.weights](const Op&, const Tensors& in, const Tensors&) { return f(in[0]); },
        way.words);
  }
  // Captured weights are right, and the sum uses others.
  if (!scene.ops("aggregate_weights").empty()) return;
  const double p = static_cast<double>(scene.config().replicas);
  propose_wrap(
      scene, out, scene.ops("aggregated"),
      [s, p](const Op& good, const Tensors& in, const Tensors& w) {
        return good.run({in[0] - s / p + s, in[1]}, w);
      },
      "the smoothing term is not divided by P");
}

}  // namespace

extern const FaultSpec aggregation_weights_not_normalised;
const FaultSpec aggregation_weights_not_normalised = {
    {"aggregation-weights-not-normalised", "aggregation", 4, "the gate's weights do not sum to 1",
     "softmax over the replicas, then w (1 - s) + s / P", "needs more than one replica", false},
    [](const ModelConfig& c) { return c.replicas > 1; },
    propose};

}  // namespace ps::reference::faults
