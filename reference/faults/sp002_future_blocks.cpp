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
           const BlockSteps steps = block_steps(c, sparse.config);
           const bool walks = sparse.walks();
           const at::Tensor open = by_rows(c, in[1].ne(0)).slice(1, steps.first).unsqueeze(1);
           at::Tensor s = walks ? in[0].slice(1, steps.first).unsqueeze(1).exp() : in[0];
           s = s.masked_fill(open.logical_not(), 0.0);
           return selected(sparse.config, s, at::ones_like(s, at::kBool), steps)
               .to(in[0].scalar_type());
         })});
  }
}

}  // namespace

extern const FaultSpec sp002_future_blocks;
const FaultSpec sp002_future_blocks = {
    {"SP002", "sparse", 4,
     "blocks that hold no allowed pair compete for a place, with a score of zero",
     "take allowed blocks only, min(top_k, allowed) of them",
     "needs rows with fewer allowed blocks than tau, or padding", false},
    applies,
    propose};

}  // namespace ps::reference::faults
