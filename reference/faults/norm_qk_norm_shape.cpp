#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  std::vector<Point> points = scene.ops("rms_norm", ".q_norm");
  const std::vector<Point> keys = scene.ops("rms_norm", ".k_norm");
  points.insert(points.end(), keys.begin(), keys.end());
  propose_wrap(
      scene, out, points,
      [eps = scene.config().rms_norm_eps](const Op&, const Tensors& in, const Tensors& w) {
        const at::Tensor x = in[0];
        const at::Tensor all = x * at::rsqrt(x.pow(2).mean(-1, true) + eps);
        return all.reshape({x.size(0), x.size(1), -1, w[0].size(0)}) * w[0];
      },
      "over all heads at once");
  propose_wrap(
      scene, out, points,
      [](const Op&, const Tensors& in, const Tensors& w) {
        return in[0].reshape({in[0].size(0), in[0].size(1), -1, w[0].size(0)});
      },
      "missing");
}

}  // namespace

extern const FaultSpec norm_qk_norm_shape;
const FaultSpec norm_qk_norm_shape = {
    {"norm-qk-norm-shape", "norm", 3,
     "the norm of queries and keys runs over all heads at once, or is missing",
     "norm each head by itself, with one weight of the head's size",
     "needs a model with norms on q and k", false},
    [](const ModelConfig& c) { return c.qk_norm; },
    propose};

}  // namespace ps::reference::faults
