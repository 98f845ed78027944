#include "reference/fault_tools.h"
#include "reference/weights.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  const BadLinear without = [](const at::Tensor& x, const at::Tensor& w, const at::Tensor&) {
    return linear_map(x, w);
  };
  const std::vector<Point> q = linears(scene, {"_attn.q_proj"}),
                           k = linears(scene, {"_attn.k_proj"}),
                           v = linears(scene, {"_attn.v_proj"});
  propose_linear(scene, out, q, without, "q");
  propose_linear(scene, out, k, without, "k");
  propose_linear(scene, out, v, without, "v");
  if (!q.empty() && !k.empty() && !v.empty()) {
    propose_linear(scene, out, linears(scene, {"_attn.q_proj", "_attn.k_proj", "_attn.v_proj"}),
                   without, "q, k and v");
    propose_linear(scene, out, linears(scene, {"_attn.q_proj", "_attn.k_proj"}), without,
                   "q and k");
  }
}

}  // namespace

extern const FaultSpec weights_qkv_bias_dropped;
const FaultSpec weights_qkv_bias_dropped = {
    {"weights-qkv-bias-dropped", "weights", 4, "the bias of a q, k or v projection is not added",
     "load and add the projection's bias (Qwen2 has one on q, k and v)",
     "needs a bias that is not zero", false},
    [](const ModelConfig& c) { return c.qkv_bias || c.is_parscale(); },
    propose};

}  // namespace ps::reference::faults
