#include <numeric>

#include "reference/bridge.h"
#include "reference/fault_tools.h"
#include "reference/weights.h"

namespace ps::reference::faults {

namespace {

// The context's heads regrouped: o_proj's input block h is the context's block order[h].
BadLinear reordered(const std::vector<std::int64_t>& order) {
  const at::Tensor index = from_int64(order, {static_cast<std::int64_t>(order.size())});
  return [index](const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias) {
    const at::Tensor blocks = x.reshape({x.size(0), x.size(1), index.size(0), -1});
    const at::Tensor y = linear_map(blocks.index_select(2, index).reshape(x.sizes()), w);
    return bias.defined() ? y + bias : y;
  };
}

void propose(Scene& scene, Proposals& out) {
  const std::int64_t heads = scene.config().heads;
  for (const std::int64_t tp : {2, 4}) {
    if (heads % tp != 0) continue;
    std::vector<std::int64_t> ranks(static_cast<std::size_t>(tp));
    std::iota(ranks.begin(), ranks.end(), 0);
    while (std::next_permutation(ranks.begin(), ranks.end())) {
      std::string list = "[";
      for (const std::int64_t r : ranks) list += (list.size() > 1 ? "," : "") + std::to_string(r);
      propose_linear(scene, out, linears(scene, {".self_attn.o_proj"}), reordered(ranks), "",
                     {{"tp", std::to_string(tp)}, {"order", list + "]"}});
    }
  }
}

}  // namespace

extern const FaultSpec tp_rank_swap_o;
const FaultSpec tp_rank_swap_o = {
    {"tp-rank-swap-o", "shard", 1, "the ranks' parts of o_proj's input are exchanged",
     "rank r's heads belong to columns r of o_proj", "needs more than one rank", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
