#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  for (const Point& point : scene.ops("linear")) {
    const at::Tensor w = scene.weight(scene.net().find(point)->weights[0]);
    if (w.size(0) != w.size(1)) continue;
    propose_linear(
        scene, out, {point},
        [](const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
          const at::Tensor y = at::matmul(x, weight);
          return bias.defined() ? y + bias : y;
        },
        module_words(point));
  }
  // All of one kind, where a chain holds several layers.
  for (const char* name : {".q_proj", ".k_proj", ".v_proj", ".o_proj"}) {
    const std::vector<Point> all = linears(scene, {name});
    if (all.size() < 2) continue;
    const at::Tensor w = scene.weight(scene.net().find(all[0])->weights[0]);
    if (w.size(0) != w.size(1)) continue;
    propose_linear(
        scene, out, all,
        [](const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
          const at::Tensor y = at::matmul(x, weight);
          return bias.defined() ? y + bias : y;
        },
        name + 1);
  }
}

}  // namespace

extern const FaultSpec weights_transposed;
const FaultSpec weights_transposed = {
    {"weights-transposed", "weights", 3, "a square weight is used transposed",
     "weights are stored [out, in]; multiply by their transpose", "needs a square weight", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
