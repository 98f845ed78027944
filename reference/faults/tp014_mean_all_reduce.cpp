#include "reference/fault_tools.h"
#include "reference/weights.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  const std::vector<Point> rows = row_parallel(scene);
  for (const std::int64_t tp : {2, 3, 4, 6, 8, 16}) {
    const double share = 1.0 / static_cast<double>(tp);
    const Parameters found = {{"tp", std::to_string(tp)}, {"factor", std::to_string(share)}};
    for (const bool bias_too : {false, true}) {
      if (bias_too && !scene.config().o_bias && !scene.config().mlp_bias) continue;
      propose_linear(
          scene, out, rows,
          [share, bias_too](const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias) {
            const at::Tensor y = linear_map(x, w) * share;
            if (!bias.defined()) return y;
            return bias_too ? y + bias * share : y + bias;
          },
          bias_too ? "with rank 0's bias" : "", found);
    }
    // A factor of 1 / sqrt(hidden) is another fault's: weights-embed-scale.
    if (tp * tp == scene.config().hidden_size) continue;
    propose_wrap(
        scene, out, scene.ops("embed"),
        [share](const Op& good, const Tensors& in, const Tensors& w) {
          return good.run(in, w) * share;
        },
        "of a vocabulary-parallel embedding", found);
  }
}

}  // namespace

extern const FaultSpec tp014_mean_all_reduce;
const FaultSpec tp014_mean_all_reduce = {
    {"TP014", "shard", 3, "the all-reduce averages the ranks' partial sums instead of adding them",
     "reduce with the sum, not the mean", "needs more than one rank", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
