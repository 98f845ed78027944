#include <stdexcept>

#include "reference/fault_tools.h"
#include "reference/weights.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  for (const Point& point : linears(scene, {"_attn.q_proj", "_attn.k_proj", "_attn.v_proj",
                                            ".mlp.gate_proj", ".mlp.up_proj"})) {
    if (scene.net().find(point)->weights.size() < 2) continue;
    for (const std::int64_t tp : {2, 3, 4, 8}) {
      propose_linear(scene, out, {point},
                     [tp](const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias) {
                       if (bias.size(0) % tp != 0) throw std::runtime_error("not divisible");
                       return linear_map(x, w, bias.slice(0, 0, bias.size(0) / tp).repeat({tp}));
                     },
                     module_words(point), {{"tp", std::to_string(tp)}});
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
