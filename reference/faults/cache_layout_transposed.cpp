#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  const auto mixed = [](const at::Tensor& x) {  // [R,K,C,D] laid out as [R,C,K,D], read as it is
    return x.transpose(1, 2).contiguous().view(x.sizes());
  };
  propose_wrap(scene, out, scene.ops("cache_append"),
               [mixed](const Op& good, const Tensors& in, const Tensors& w) {
                 return mixed(good.run(in, w));
               });
  propose_wrap(
      scene, out, scene.ops("cache_append"),
      [mixed](const Op& good, const Tensors& in, const Tensors& w) {
        const at::Tensor right = good.run(in, w);
        const std::int64_t fresh = in[0].dim() == 3 ? in[0].size(1) : in[0].size(2);
        const std::int64_t old = right.size(2) - fresh;
        return at::cat({right.slice(2, 0, old), mixed(right.slice(2, old))}, 2);
      },
      "the new tokens only");
  propose_wrap(
      scene, out, scene.ops("cache_append"),
      [](const Op& good, const Tensors& in, const Tensors& w) {
        const at::Tensor right = good.run(in, w);
        return right.contiguous()
            .view({right.size(0), right.size(2), right.size(1), right.size(3)})
            .transpose(1, 2)
            .contiguous();
      },
      "the other way round");
}

}  // namespace

extern const FaultSpec cache_layout_transposed;
const FaultSpec cache_layout_transposed = {
    {"cache-layout-transposed", "cache", 2,
     "the cache is stored as [rows, slots, heads, size] and read as [rows, heads, slots, size], or "
     "the reverse",
     "transpose heads and slots when the layout changes; a reshape does not do it",
     "needs more than one key/value head and more than one token", false},
    [](const ModelConfig& c) { return c.kv_heads > 1; },
    propose};

}  // namespace ps::reference::faults
