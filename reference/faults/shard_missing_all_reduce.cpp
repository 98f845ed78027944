#include <stdexcept>

#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  const std::vector<Point> rows = row_parallel(scene);
  for (const std::int64_t tp : {2, 3, 4, 8}) {
    for (std::int64_t rank = 0; rank < tp; ++rank) {
      propose_linear(scene, out, rows,
                     [tp, rank](const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias) {
                       const std::int64_t n = x.size(-1);
                       if (n % tp != 0) throw std::runtime_error("not divisible");
                       const std::int64_t from = rank * (n / tp), to = (rank + 1) * (n / tp);
                       const at::Tensor y = at::linear(x.slice(-1, from, to), w.slice(1, from, to));
                       return bias.defined() ? y + bias : y;
                     },
                     "", {{"tp", std::to_string(tp)}, {"rank", std::to_string(rank)}});
    }
  }
}

}  // namespace

extern const FaultSpec shard_missing_all_reduce;
const FaultSpec shard_missing_all_reduce = {
    {"shard-missing-all-reduce", "shard", 3,
     "a row-parallel op gives one rank's partial sum: the all-reduce is missing",
     "sum over the ranks after o_proj and down_proj", "needs more than one rank", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
