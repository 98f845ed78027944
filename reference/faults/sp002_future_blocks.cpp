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
  const auto lists = [=](const Tensors& in, bool forces_blind) {
    const SparseConfig& config = sparse.config;
    const BlockSteps steps = block_steps(c, config);
    const at::Tensor open = by_rows(c, in[1].ne(0)).slice(1, steps.first).unsqueeze(1);
    at::Tensor s = sparse.walks() ? in[0].slice(1, steps.first).unsqueeze(1).exp() : in[0];
    s = s.masked_fill(open.logical_not(), 0.0);
    const at::Tensor all = at::ones_like(s, at::kBool);
    if (forces_blind) return selected(config, s, all, steps).to(in[0].scalar_type());
    // Forced blocks are those with an allowed pair; no other block stands above every score.
    const at::Tensor own = at::arange(steps.first, steps.blocks).unsqueeze(1);
    const at::Tensor block = at::arange(steps.blocks).unsqueeze(0);
    const at::Tensor forced =
        (block < config.sinks).logical_or((block > own - config.locals).logical_and(block <= own));
    SparseConfig none = config;
    none.sinks = 0, none.locals = 0;
    none.tau = std::max<std::int64_t>(config.tau, config.sinks + config.locals);
    const at::Tensor first = s.masked_fill(forced.logical_and(open), HUGE_VAL);
    return selected(none, first, all, steps).to(in[0].scalar_type());
  };
  for (const Scope& scope : scopes(scene.ops("block_mask"))) {
    for (const bool blind : {false, true}) {
      if (!blind && !sparse.walks()) continue;
      out.push_back({joined(scope.words, blind ? "forced blocks are taken whatever they hold" : ""),
                     {},
                     wrap(scope.points, [=](const Op&, const Tensors& in, const Tensors&) {
                       return lists(in, blind);
                     })});
    }
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
