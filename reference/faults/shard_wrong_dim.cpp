#include "reference/fault_tools.h"
#include "reference/weights.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  for (const Point& point :
       linears(scene, {".q_proj", ".k_proj", ".v_proj", ".gate_proj", ".up_proj"})) {
    const at::Tensor weight = scene.weight(scene.net().find(point)->weights[0]);
    if (weight.size(0) != weight.size(1)) continue;
    for (const std::int64_t tp : {2, 3, 4, 8}) {
      if (weight.size(1) % tp != 0) continue;
      const std::int64_t n = weight.size(1) / tp;
      for (std::int64_t rank = 0; rank < tp; ++rank) {
        propose_linear(scene, out, {point},
                       [=](const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias) {
                         const at::Tensor y = at::linear(x.slice(-1, rank * n, (rank + 1) * n),
                                                         w.slice(1, rank * n, (rank + 1) * n));
                         return bias.defined() ? y + bias : y;
                       },
                       module_words(point) + ": one rank's columns",
                       {{"tp", std::to_string(tp)}, {"rank", std::to_string(rank)}});
      }
      propose_linear(
          scene, out, {point},
          [=](const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias) {
            Tensors parts;
            for (std::int64_t r = 0; r < tp; ++r)
              parts.push_back(w.slice(1, r * n, (r + 1) * n).contiguous().view({-1, w.size(1)}));
            const at::Tensor y = linear_map(x, at::cat(parts, 0));
            return bias.defined() ? y + bias : y;
          },
          module_words(point) + ": column blocks read as row blocks", {{"tp", std::to_string(tp)}});
    }
  }
}

}  // namespace

extern const FaultSpec shard_wrong_dim;
const FaultSpec shard_wrong_dim = {
    {"shard-wrong-dim", "shard", 4, "a column-parallel weight was split along its input axis",
     "split q, k, v, gate and up along their outputs (dim 0), o and down along their inputs (dim "
     "1)",
     "needs more than one rank and a square weight", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
