#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  const ModelConfig& c = scene.config();
  std::vector<std::int64_t> map;
  for (std::int64_t h = 0; h < c.heads; ++h) map.push_back(h % c.kv_heads);
  propose_head_map(scene, out, map);
  std::vector<Point> points = scene.ops("cross_probs");
  const std::vector<Point> contexts = scene.ops("cross_context");
  points.insert(points.end(), contexts.begin(), contexts.end());
  if (points.empty()) return;
  // The same in cross-replica attention: q and k [B,S,n,P,X], v [P*B,S,K*X].
  const std::int64_t kv = c.kv_heads, group = c.group(), p = c.replicas;
  const double scale = 1.0 / std::sqrt(static_cast<double>(c.cross_head_dim()));
  propose_wrap(
      scene, out, points,
      [=](const Op& good, const Tensors& in, const Tensors&) {
        if (good.kind == "cross_probs") {
          const at::Tensor keys = in[1].repeat({1, 1, group, 1, 1});
          return at::softmax(at::matmul(in[0], keys.transpose(-1, -2)) * scale, -1);
        }
        const std::int64_t batch = in[1].size(0) / p;
        const at::Tensor values = in[1]
                                      .view({p, batch, in[1].size(1), kv, -1})
                                      .permute({1, 2, 3, 0, 4})
                                      .repeat({1, 1, group, 1, 1});
        const at::Tensor mixed = at::matmul(in[0], values);
        return mixed.permute({3, 0, 1, 2, 4}).reshape({p * batch, mixed.size(1), -1});
      },
      "cross-replica attention");
}

}  // namespace

extern const FaultSpec attention_gqa_repeat_vs_interleave;
const FaultSpec attention_gqa_repeat_vs_interleave = {
    {"attention-gqa-repeat-vs-interleave", "attention", 5,
     "query head h reads key/value head h mod K (tiled); it should read head h / g (neighbours "
     "share one)",
     "expand key/value heads with repeat_interleave, not repeat",
     "needs more than one key/value head, and more query heads than those", false},
    [](const ModelConfig& c) { return c.kv_heads > 1 && c.group() > 1; },
    propose};

}  // namespace ps::reference::faults
