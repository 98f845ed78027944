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

// Softmax weights of the columns of a block doubled.
void propose(Scene& scene, Proposals& out) {
  const SparseAttention sparse = *sparse_attention(scene.config());
  const StepContext c = scene.context();
  for (const Scope& scope : scopes(scene.ops("sparse_probs"))) {
    for (const bool first : {true, false}) {
      out.push_back({joined(scope.words, first ? "the first block" : "the query's own block"),
                     {},
                     wrap(scope.points, [=](const Op& good, const Tensors& in, const Tensors& w) {
                       const BlockSteps steps = block_steps(c, sparse.config);
                       const at::Tensor p = good.run(in, w);
                       const at::Tensor token = at::arange(steps.total);
                       const at::Tensor key = at::floor_divide(token, steps.block).unsqueeze(0);
                       const at::Tensor own =
                           at::floor_divide(token.slice(0, steps.past), steps.block).unsqueeze(1);
                       const at::Tensor twice =
                           first ? key.eq(0).expand({own.size(0), -1}) : key.eq(own);
                       const at::Tensor prefix =
                           at::zeros({own.size(0), c.config->prefix_tokens}, at::kBool);
                       const at::Tensor more = at::cat({prefix, twice}, 1).to(p.scalar_type()) + 1;
                       const at::Tensor weighed = p * more;
                       return weighed / weighed.sum(-1, true).clamp_min(1e-30);
                     })});
    }
  }
}

}  // namespace

extern const FaultSpec sp004_block_twice;
const FaultSpec sp004_block_twice = {
    {"SP004", "sparse", 3, "a block stands twice in the lists, so its keys weigh double",
     "put forced blocks in without taking them again", "needs two selected blocks in a row", false},
    applies,
    propose};

}  // namespace ps::reference::faults
