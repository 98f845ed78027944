#include "reference/fault_tools.h"
#include "reference/ops/blocks.h"
#include "reference/weights.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  const BadRun untransposed = [](const Op& good, const Tensors& in, const Tensors&) {
    const at::Tensor x = in[0].flatten(2);
    const std::int64_t n = good.run(in, {}).size(1);
    const at::Tensor heads = x.reshape({x.size(0), n, x.size(1), -1});  // not transposed
    return rotate(heads, in[1].unsqueeze(1), in[2].unsqueeze(1));
  };
  for (const Scope& scope : module_groups(scene.ops("rope"))) {
    out.push_back({joined("q and k as [rows, heads, tokens, size]", scope.words),
                   {},
                   wrap(scope.points, untransposed)});
  }
  propose_wrap(
      scene, out, scene.ops("context"),
      [](const Op& good, const Tensors& in, const Tensors& w) {
        const at::Tensor right = good.run(in, w);  // [R,S,H*D]
        const std::int64_t heads = in[0].size(1);
        return right.view({right.size(0), right.size(1), heads, -1})
            .transpose(1, 2)
            .contiguous()
            .view(right.sizes());
      },
      "the context before its heads are joined");
  const std::int64_t heads = scene.config().heads;
  propose_linear(
      scene, out, linears(scene, {".self_attn.o_proj"}),
      [heads](const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias) {
        const at::Tensor mixed = x.reshape({x.size(0), x.size(1), heads, -1})
                                     .transpose(1, 2)
                                     .contiguous()
                                     .view(x.sizes());
        const at::Tensor y = linear_map(mixed, w);
        return bias.defined() ? y + bias : y;
      },
      "o_proj reads [rows, heads, tokens, size]");
  propose_wrap(
      scene, out, scene.ops("cache_append", ":v_cache"),
      [](const Op& good, const Tensors& in, const Tensors& w) {
        const at::Tensor right = good.run(in, w);
        const std::int64_t fresh = in[0].size(1), kv = right.size(1);
        const at::Tensor mixed = in[0].contiguous().view({in[0].size(0), kv, fresh, -1});
        return at::cat({right.slice(2, 0, right.size(2) - fresh), mixed}, 2);
      },
      "v as [rows, heads, tokens, size]");
}

}  // namespace

extern const FaultSpec attention_noncontiguous_stride;
const FaultSpec attention_noncontiguous_stride = {
    {"attention-noncontiguous-stride", "attention", 4,
     "an op reads a transposed tensor as if it lay contiguous in memory: tokens and heads are "
     "mixed up",
     "call contiguous() before the kernel, or pass the strides",
     "needs more than one token and more than one head", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
