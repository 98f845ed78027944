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
  for (const Scope& scope : scopes(scene.ops("block_transition"))) {
    out.push_back(
        {scope.words, {}, wrap(scope.points, [=](const Op&, const Tensors& in, const Tensors&) {
           const at::Tensor open = by_rows(c, in[1].ne(0));
           const at::Tensor all =
               log_transitions(in[0], at::ones_like(open), sparse.config.exponent);
           return at::where(open, all, 0.0);
         })});
  }
}

}  // namespace

extern const FaultSpec sp013_softmax_sees_future;
const FaultSpec sp013_softmax_sees_future = {
    {"SP013", "sparse", 3,
     "the softmax over blocks runs before the mask, so that later blocks change earlier rows",
     "mask before the softmax", "needs rows with blocks that are not allowed", false},
    applies,
    propose};

}  // namespace ps::reference::faults
