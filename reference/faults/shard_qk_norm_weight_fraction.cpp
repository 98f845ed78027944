#include <stdexcept>

#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  for (const std::int64_t tp : {2, 4, 8}) {
    std::vector<Point> norms = scene.ops("rms_norm", ".q_norm");
    const std::vector<Point> keys = scene.ops("rms_norm", ".k_norm");
    norms.insert(norms.end(), keys.begin(), keys.end());
    propose_wrap(scene, out, norms,
                 [tp](const Op& good, const Tensors& in, const Tensors& w) {
                   const at::Tensor unit = good.run(in, {at::ones_like(w[0])});  // [R,S,n,D]
                   const std::int64_t heads = unit.size(2), n = w[0].size(0) / tp;
                   if (w[0].size(0) % tp != 0 || heads % tp != 0)
                     throw std::runtime_error("not divisible");
                   Tensors rows;
                   for (std::int64_t h = 0; h < heads; ++h) {
                     const std::int64_t rank = h / (heads / tp);
                     rows.push_back(w[0].slice(0, rank * n, (rank + 1) * n).repeat({tp}));
                   }
                   return unit * at::stack(rows, 0);
                 },
                 "", {{"tp", std::to_string(tp)}});
  }
}

}  // namespace

extern const FaultSpec shard_qk_norm_weight_fraction;
const FaultSpec shard_qk_norm_weight_fraction = {
    {"shard-qk-norm-weight-fraction", "shard", 2,
     "the weight of the norm on q and k was sharded although every head needs all of it",
     "replicate the q and k norm weights on every rank",
     "needs more than one rank, norms on q and k, and weights that are not all equal", false},
    [](const ModelConfig& c) { return c.qk_norm; },
    propose};

}  // namespace ps::reference::faults
