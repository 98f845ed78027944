#include "reference/fault_tools.h"
#include "reference/ops/blocks.h"
#include "reference/ops/sparse_attention.h"
#include "reference/sparse/blocks.h"

namespace ps::reference::faults {

namespace {

bool applies(const ModelConfig& config) {
  const std::optional<SparseAttention> sparse = sparse_attention(config);
  return sparse.has_value();
}

void propose(Scene& scene, Proposals& out) {
  const SparseAttention sparse = *sparse_attention(scene.config());
  const StepContext c = scene.context();
  for (const Scope& scope : scopes(scene.ops("block_mask"))) {
    out.push_back(
        {scope.words, {}, wrap(scope.points, [=](const Op&, const Tensors& in, const Tensors&) {
           SparseConfig config = sparse.config;
           config.locals = 0;
           return selected_from(c, config, in);
         })});
  }
}

}  // namespace

extern const FaultSpec sp003_diagonal_not_forced;
const FaultSpec sp003_diagonal_not_forced = {
    {"SP003", "sparse", 3, "the block of the query itself is not forced into its list",
     "force the last n_local blocks up to the own one",
     "needs a row whose own block is not among its best", false},
    applies,
    propose};

}  // namespace ps::reference::faults
