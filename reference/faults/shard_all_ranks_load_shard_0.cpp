#include <stdexcept>

#include "reference/fault_tools.h"
#include "reference/weights.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  for (const Point& point : linears(scene, {"_attn.q_proj", "_attn.k_proj", "_attn.v_proj",
                                            ".mlp.gate_proj", ".mlp.up_proj"})) {
    for (const std::int64_t tp : {2, 3, 4, 8}) {
      for (const bool whole_bias : {false, true}) {
        if (whole_bias && scene.net().find(point)->weights.size() < 2) continue;
        propose_linear(
            scene, out, {point},
            [tp, whole_bias](const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias) {
              const std::int64_t n = w.size(0) / tp;
              if (w.size(0) % tp != 0) throw std::runtime_error("not divisible");
              const at::Tensor y = linear_map(x, w.slice(0, 0, n)).repeat({1, 1, tp});
              if (!bias.defined()) return y;
              return y + (whole_bias ? bias : bias.slice(0, 0, n).repeat({tp}));
            },
            joined(module_words(point), whole_bias ? "its bias is whole" : ""),
            {{"tp", std::to_string(tp)}});
      }
    }
  }
}

}  // namespace

extern const FaultSpec shard_all_ranks_load_shard_0;
const FaultSpec shard_all_ranks_load_shard_0 = {
    {"shard-all-ranks-load-shard-0", "shard", 3,
     "every rank of a column-parallel op loaded rank 0's shard",
     "read the rank after the process group is up, and pass it to the loader",
     "needs more than one rank", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
