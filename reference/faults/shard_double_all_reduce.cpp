#include "reference/fault_tools.h"
#include "reference/weights.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  const std::vector<Point> rows = row_parallel(scene);
  for (const std::int64_t tp : {2, 3, 4, 6, 8, 16}) {
    propose_linear(scene, out, rows,
                   [tp](const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias) {
                     const at::Tensor y = linear_map(x, w) * static_cast<double>(tp);
                     return bias.defined() ? y + bias : y;
                   },
                   "", {{"tp", std::to_string(tp)}});
  }
}

}  // namespace

extern const FaultSpec shard_double_all_reduce;
const FaultSpec shard_double_all_reduce = {
    {"shard-double-all-reduce", "shard", 4,
     "a row-parallel op's result was summed over the ranks twice",
     "reduce once: in the module or in its caller", "needs more than one rank", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
