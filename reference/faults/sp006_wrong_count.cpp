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
    for (const std::int64_t more : {-1, 1}) {
      out.push_back({joined(scope.words, more < 0 ? "one block too few" : "one block too many"),
                     {},
                     wrap(scope.points, [=](const Op&, const Tensors& in, const Tensors&) {
                       SparseConfig config = sparse.config;
                       config.tau += more;
                       config.token_budget += more * config.block;
                       return selected_from(c, config, in);
                     })});
    }
  }
}

}  // namespace

extern const FaultSpec sp006_wrong_count;
const FaultSpec sp006_wrong_count = {
    {"SP006", "sparse", 2, "the lists have another length than min(max(tau, forced), allowed)",
     "count forced blocks in, and stop at tau", "needs rows with more allowed blocks than tau",
     false},
    applies,
    propose};

}  // namespace ps::reference::faults
