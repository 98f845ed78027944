// Attention over the replicas of one token (parscale.md section 5): the replica axis is the
// sequence, there is no mask and no cache, and a replica sees itself.
#include "reference/ops/blocks.h"

namespace ps::reference {

namespace {

// [P*B,S,n*X] to [B,S,n,P,X].
at::Tensor replicas_as_sequence(const at::Tensor& x, std::int64_t p, std::int64_t n) {
  const std::int64_t batch = x.size(0) / p;
  return x.view({p, batch, x.size(1), n, -1}).permute({1, 2, 3, 0, 4});
}

// q or k as the attention reads it, rotated by the replica's index where the config asks for it.
// Upstream leaves a rotated q and k in float32 and then fails on a 16-bit v; we round to the
// model's type, so that such checkpoints run at all.
Point by_head(Net& net, const std::string& point, const Point& x, std::int64_t n,
              const ReplicaRope& rope) {
  const std::int64_t p = net.config().replicas;
  const Types types = net.context().types;
  const bool rotates = !rope.cos.empty();
  std::vector<Point> inputs = {x};
  if (rotates) inputs.insert(inputs.end(), {rope.cos, rope.sin});
  return net.add(
      {point, "replica_rope", std::move(inputs), {}, [=](const Tensors& in, const Tensors&) {
         const at::Tensor heads = replicas_as_sequence(in[0], p, n);  // [B,S,n,P,X]
         if (!rotates) return heads;
         const at::Tensor cos = in[1].unsqueeze(1).unsqueeze(1);  // [B,1,1,P,X]
         const at::Tensor sin = in[2].unsqueeze(1).unsqueeze(1);
         return rotate(heads.to(types.island), cos, sin).to(types.model);
       }});
}

}  // namespace

Point cross_replica_attention(Net& net, std::int64_t i, const Point& x, const ReplicaRope& rope) {
  const ModelConfig& config = net.config();
  const std::string name = layer(i, "cross_replica_attn");
  const std::int64_t p = config.replicas, heads = config.heads, kv = config.kv_heads;
  const std::int64_t group = config.group();
  const double scale = 1.0 / std::sqrt(static_cast<double>(config.cross_head_dim()));
  const Types types = net.context().types;

  const Point q_proj = linear(net, name + ".q_proj", x, true);
  const Point k_proj = linear(net, name + ".k_proj", x, true);
  const Point v = linear(net, name + ".v_proj", x, true);
  const Point q = by_head(net, name + ":q_rope", q_proj, heads, rope);
  const Point k = by_head(net, name + ":k_rope", k_proj, kv, rope);
  const Point probs =
      net.add({name + ":probs", "cross_probs", {q, k}, {}, [=](const Tensors& in, const Tensors&) {
                 const at::Tensor keys = in[1].repeat_interleave(group, 2);  // [B,S,H,P,X]
                 const at::Tensor scores = at::matmul(in[0], keys.transpose(-1, -2)) * scale;
                 return at::softmax(scores.to(types.island), -1).to(types.model);  // [B,S,H,P,P]
               }});
  const Point context = net.add(
      {name + ":context", "cross_context", {probs, v}, {}, [=](const Tensors& in, const Tensors&) {
         const at::Tensor values = replicas_as_sequence(in[1], p, kv).repeat_interleave(group, 2);
         const at::Tensor mixed = at::matmul(in[0], values);  // [B,S,H,P,X]
         return mixed.permute({3, 0, 1, 2, 4})
             .reshape({p * mixed.size(0), mixed.size(1), -1});  // [P*B,S,H*X]
       }});
  return linear(net, name + ".o_proj", context, false);
}

}  // namespace ps::reference
