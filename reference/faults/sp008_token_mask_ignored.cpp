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
  const double scale = 1.0 / std::sqrt(static_cast<double>(c.config->head_dim));
  for (const Scope& scope : scopes(scene.ops("sparse_probs"))) {
    out.push_back(
        {scope.words, {}, wrap(scope.points, [=](const Op&, const Tensors& in, const Tensors&) {
           const at::Tensor columns = selected_columns(c, block_steps(c, sparse.config), in[3]);
           return masked_softmax(scaled_scores(in[0], in[1], scale), columns, EmptyRows::kZeros,
                                 types_of(in[0].scalar_type()));
         })});
  }
}

}  // namespace

extern const FaultSpec sp008_token_mask_ignored;
const FaultSpec sp008_token_mask_ignored = {
    {"SP008", "sparse", 5, "the token mask is not applied inside the selected blocks",
     "apply the mask of tokens again inside every PARTIAL tile",
     "needs a selected tile that the mask shows in part, such as a diagonal one", false},
    applies,
    propose};

}  // namespace ps::reference::faults
