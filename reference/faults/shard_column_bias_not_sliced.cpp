#include <stdexcept>

#include "reference/fault_tools.h"
#include "reference/weights.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  std::vector<Point> biased;
  for (const Point& point : linears(scene, {"_attn.q_proj", "_attn.k_proj", "_attn.v_proj",
                                            ".mlp.gate_proj", ".mlp.up_proj"})) {
    if (scene.net().find(point)->weights.size() > 1) biased.push_back(point);
  }
  for (const std::int64_t tp : {2, 3, 4, 8}) {
    const BadLinear bad = [tp](const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias) {
      if (bias.size(0) % tp != 0) throw std::runtime_error("not divisible");
      return linear_map(x, w, bias.slice(0, 0, bias.size(0) / tp).repeat({tp}));
    };
    const Parameters parameters = {{"tp", std::to_string(tp)}};
    for (const Point& point : biased) {
      propose_linear(scene, out, {point}, bad, module_words(point), parameters);
    }
    if (biased.size() < 2) continue;
    propose_linear(scene, out, biased, bad, "all biases", parameters);
    std::vector<Point> qkv;
    for (const Point& point : biased) {
      if (point.find("_attn.") != std::string::npos) qkv.push_back(point);
    }
    if (qkv.size() < biased.size()) {
      propose_linear(scene, out, qkv, bad, "biases of q, k and v", parameters);
    }
  }
}

}  // namespace

extern const FaultSpec shard_column_bias_not_sliced;
const FaultSpec shard_column_bias_not_sliced = {
    {"shard-column-bias-not-sliced", "shard", 3,
     "every rank of a column-parallel op uses rank 0's slice of the bias",
     "slice the bias as the weight's rows", "needs more than one rank and a bias", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
