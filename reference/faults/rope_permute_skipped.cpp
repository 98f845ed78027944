#include "reference/bridge.h"
#include "reference/fault_tools.h"
#include "reference/weights.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  const std::int64_t d = scene.config().head_dim;
  std::vector<std::int64_t> to_halves, to_pairs(static_cast<std::size_t>(d));
  for (std::int64_t i = 0; i < d; ++i) {
    to_halves.push_back(i < d / 2 ? 2 * i : 2 * (i - d / 2) + 1);
    to_pairs[static_cast<std::size_t>(to_halves.back())] = i;
  }
  for (const bool halves : {true, false}) {
    const at::Tensor order = from_int64(halves ? to_halves : to_pairs, {d});
    for (const bool with_bias : {true, false}) {
      const BadLinear bad = [order, with_bias](const at::Tensor& x, const at::Tensor& w,
                                               const at::Tensor& bias) {
        const auto permuted = [&](const at::Tensor& y) {
          const at::Tensor heads = y.view({y.size(0), y.size(1), -1, order.size(0)});
          return heads.index_select(-1, order).reshape(y.sizes());
        };
        const at::Tensor y = linear_map(x, w);
        if (!bias.defined()) return permuted(y);
        return with_bias ? permuted(y + bias) : permuted(y) + bias;
      };
      const std::string words =
          std::string(halves ? "even channels first" : "halves taken for pairs") +
          (with_bias ? "" : ", bias left as it was");
      const std::vector<Point> q = linears(scene, {".self_attn.q_proj"});
      const std::vector<Point> k = linears(scene, {".self_attn.k_proj"});
      if (!q.empty() && !k.empty()) {
        propose_linear(scene, out, linears(scene, {".self_attn.q_proj", ".self_attn.k_proj"}), bad,
                       words);
      }
      propose_linear(scene, out, q, bad, words + (k.empty() ? "" : ", q only"));
      propose_linear(scene, out, k, bad, words + (q.empty() ? "" : ", k only"));
    }
  }
}

}  // namespace

extern const FaultSpec rope_permute_skipped;
const FaultSpec rope_permute_skipped = {
    {"rope-permute-skipped", "rope", 3,
     "the rows of W_q and W_k are in the other rotary layout: a permutation at conversion was "
     "skipped or done twice",
     "permute the rows of q_proj and k_proj (within each head, pairs to halves) exactly once",
     "needs a head size of 4 or more", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
