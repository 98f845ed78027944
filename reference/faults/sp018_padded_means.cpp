#include "reference/fault_tools.h"
#include "reference/ops/blocks.h"
#include "reference/ops/sparse_attention.h"
#include "reference/sparse/blocks.h"

namespace ps::reference::faults {

namespace {

bool applies(const ModelConfig& config) {
  const std::optional<SparseAttention> sparse = sparse_attention(config);
  return sparse && sparse->walks();
}

void propose(Scene& scene, Proposals& out) {
  const SparseAttention sparse = *sparse_attention(scene.config());
  const StepContext c = scene.context();
  for (const Scope& scope : scopes(scene.ops("block_means"))) {
    out.push_back({scope.words,
                   {},
                   wrap(scope.points, [=](const Op& good, const Tensors& in, const Tensors& w) {
                     const at::Tensor mean = good.run(in, w);
                     const at::Tensor real = by_rows(c, real_tokens(c));
                     const at::Tensor count =
                         pool_mean(mean.new_zeros({mean.size(0), real.size(1), 1}), real,
                                   sparse.config.block, 0)
                             .count;
                     return mean * (count / static_cast<double>(sparse.config.block))
                                       .unsqueeze(-1)
                                       .to(mean.scalar_type());
                   })});
  }
}

}  // namespace

extern const FaultSpec sp018_padded_means;
const FaultSpec sp018_padded_means = {
    {"SP018", "sparse", 4,
     "block means are divided by the size of the block, not by the number of its tokens",
     "divide by the true number of valid tokens", "needs a block that is cut, or holds padding",
     false},
    applies,
    propose};

}  // namespace ps::reference::faults
