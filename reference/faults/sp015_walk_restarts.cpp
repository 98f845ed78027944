#include "reference/fault_tools.h"
#include "reference/ops/blocks.h"
#include "reference/ops/sparse_attention.h"
#include "reference/sparse/blocks.h"

namespace ps::reference::faults {

namespace {

bool applies(const ModelConfig& config) {
  const std::optional<SparseAttention> sparse = sparse_attention(config);
  return sparse && sparse->walks() && sparse->config.depth == 0;
}

void propose(Scene& scene, Proposals& out) {
  const SparseAttention sparse = *sparse_attention(scene.config());
  const StepContext c = scene.context();
  for (const Scope& scope : scopes(scene.ops("block_walk"))) {
    out.push_back(
        {scope.words, {}, wrap(scope.points, [=](const Op&, const Tensors& in, const Tensors&) {
           return log_walks({}, {in.back()}, by_rows(c, in[0].ne(0)), sparse.config.damping);
         })});
  }
}

}  // namespace

extern const FaultSpec sp015_walk_restarts;
const FaultSpec sp015_walk_restarts = {
    {"SP015", "sparse", 2, "the walk of the layers before is left out: every layer starts anew",
     "keep the state of the sequence from layer to layer", "needs two layers that select", false},
    applies,
    propose};

}  // namespace ps::reference::faults
