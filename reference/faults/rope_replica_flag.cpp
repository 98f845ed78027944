#include "reference/fault_tools.h"
#include "reference/ops/blocks.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  const BadRun bad = [config = scene.config()](const Op& good, const Tensors& in, const Tensors&) {
    const std::int64_t p = config.replicas, x = config.cross_head_dim();
    const at::Tensor heads =
        in[0].view({p, in[0].size(0) / p, in[0].size(1), -1, x}).permute({1, 2, 3, 0, 4});
    if (good.inputs.size() > 1) return heads.contiguous();  // left out
    const auto options = at::TensorOptions().dtype(in[0].scalar_type());
    const at::Tensor f = at::pow(10000.0, -at::arange(0, x, 2, options) / static_cast<double>(x));
    const at::Tensor angle = (at::arange(p, options).unsqueeze(-1) * f).repeat_interleave(2, -1);
    return rotate(heads, at::cos(angle), at::sin(angle)).contiguous();
  };
  // Or self attention's q and k are turned by the replica's index as well.
  propose_wrap(
      scene, out, scene.ops("rope"),
      [c = scene.context()](const Op& good, const Tensors& in, const Tensors& w) {
        const at::Tensor right = good.run(in, w);  // [R,n,S,D]
        const auto type = right.scalar_type();
        const at::Tensor p =
            at::arange(c.config->replicas, right.options()).repeat_interleave(c.batch());
        const at::Tensor f = rope_frequencies(*c.config, c.types).to(type);
        const at::Tensor angle = (p.unsqueeze(-1) * f).unsqueeze(1).unsqueeze(1);
        const at::Tensor table = at::cat({angle, angle}, -1);
        const double scale = rope_table_scale(c.config->rope, c.config->max_position_embeddings);
        return rotate(right, at::cos(table) * scale, at::sin(table) * scale);
      },
      "applied in self attention");
  propose_wrap(scene, out, scene.ops("replica_rope"), bad,
               scene.config().replica_rope ? "left out" : "applied without being asked for");
}

}  // namespace

extern const FaultSpec rope_replica_flag;
const FaultSpec rope_replica_flag = {
    {"rope-replica-flag", "rope", 2,
     "replica RoPE in cross-replica attention does not follow the config: it is applied without "
     "being asked for, or left out",
     "check the attribute's name: enable_replica_rope decides whether the replica index rotates q "
     "and k",
     "needs cross-replica attention and more than one replica", false},
    [](const ModelConfig& c) {
      return std::find(c.cross_layer.begin(), c.cross_layer.end(), true) != c.cross_layer.end();
    },
    propose};

}  // namespace ps::reference::faults
