// Self attention with a cache, over a row's own tokens or (cross-KV) over those of all replicas.
#include "reference/ops/blocks.h"
#include "reference/ops/sparse_attention.h"

namespace ps::reference {

namespace {

struct Heads {
  std::int64_t q = 0, kv = 0, dim = 0;
};
Heads heads_of(const ModelConfig& c) { return {c.heads, c.kv_heads, c.head_dim}; }

}  // namespace

// [R,S,n*D] to [R,n,S,D].
at::Tensor split_heads(const at::Tensor& x, std::int64_t n) {
  return x.view({x.size(0), x.size(1), n, -1}).transpose(1, 2);
}
// [R,n,S,D] to [R,S,n*D].
at::Tensor join_heads(const at::Tensor& x) {
  return x.transpose(1, 2).reshape({x.size(0), x.size(2), -1});
}

namespace {

// [R,n,S,D] to [B,n,P*S,D]: the replicas of a sample side by side, token index p*S + s.
at::Tensor side_by_side(const at::Tensor& x, std::int64_t p) {
  const std::int64_t batch = x.size(0) / p;
  return x.view({p, batch, x.size(1), x.size(2), x.size(3)})
      .permute({1, 2, 0, 3, 4})
      .reshape({batch, x.size(1), p * x.size(2), x.size(3)});
}
// [B,n,P*S,E] back to [R,n,S,E].
at::Tensor by_replica(const at::Tensor& x, std::int64_t p) {
  return x.reshape({x.size(0), x.size(1), p, -1, x.size(3)})
      .permute({2, 0, 1, 3, 4})
      .reshape({p * x.size(0), x.size(1), x.size(2) / p, x.size(3)});
}

}  // namespace

// Query head h reads key/value head h / g: the g query heads of a group are neighbours, so they
// can be stacked on the token axis. [R,H,S,D] x [R,K,C,D] -> [R,H,S,C].
at::Tensor scaled_scores(const at::Tensor& q, const at::Tensor& k, double scale) {
  const std::int64_t rows = q.size(0), heads = q.size(1), length = q.size(2), dim = q.size(3);
  const std::int64_t kv = k.size(1);
  const at::Tensor stacked = q.reshape({rows, kv, heads / kv * length, dim});
  return (at::matmul(stacked, k.transpose(-1, -2)) * scale).view({rows, heads, length, -1});
}
at::Tensor weighted_values(const at::Tensor& probs, const at::Tensor& v) {
  const std::int64_t rows = probs.size(0), heads = probs.size(1), length = probs.size(2);
  const std::int64_t kv = v.size(1);
  const at::Tensor stacked = probs.reshape({rows, kv, heads / kv * length, probs.size(3)});
  return at::matmul(stacked, v).view({rows, heads, length, -1});
}

namespace {

Point head_norm(Net& net, const std::string& point, const Point& x, std::int64_t n) {
  const double eps = net.config().rms_norm_eps;
  const Types types = net.context().types;
  return net.add(
      {point, "rms_norm", {x}, {point + ".weight"}, [=](const Tensors& in, const Tensors& w) {
         const at::Tensor heads = in[0].view({in[0].size(0), in[0].size(1), n, -1});
         return rms_norm(heads, w[0], eps, types);  // [R,S,n,D]
       }});
}

// From a projection [R,S,n*D], or a norm over heads [R,S,n,D], to the rotated [R,n,S,D].
Point rope(Net& net, const std::string& point, const Point& x, std::int64_t n, const Tables& t) {
  return net.add({point, "rope", {x, t.cos, t.sin}, {}, [n](const Tensors& in, const Tensors&) {
                    const at::Tensor heads = split_heads(in[0].flatten(2), n);
                    return rotate(heads, in[1].unsqueeze(1), in[2].unsqueeze(1));
                  }});
}

// The cache after this step: the past, or the prefix (each replica's, for every sample of it; never
// rotated) where there is none, then the new tokens.
Point cache_append(Net& net, const std::string& point, const Point& fresh,
                   const std::string& prefix, bool split, bool remembers) {
  const StepContext c = net.context();
  const bool has_past = remembers && !c.cache_empty;
  const bool has_prefix = !has_past && !prefix.empty() && c.config->prefix_tokens > 0;
  std::vector<Point> inputs = {fresh};
  if (has_past) inputs.push_back(past_of(point));
  std::vector<std::string> weights;
  if (has_prefix) weights.push_back(prefix);
  const std::int64_t kv_heads = c.config->kv_heads;
  return net.add({point, "cache_append", std::move(inputs), std::move(weights),
                  [=](const Tensors& in, const Tensors& w) {
                    const at::Tensor now = split ? split_heads(in[0], kv_heads) : in[0];
                    if (has_past) return at::cat({in[1], now}, 2);
                    if (has_prefix) {
                      return at::cat({w[0].repeat_interleave(c.batch(), 0), now}, 2);
                    }
                    return now.contiguous();
                  }});
}

struct Qkv {
  Point q, k_cache, v_cache;
};

Qkv project_and_cache(Net& net, std::int64_t i, const Point& x, const Tables& tables,
                      const std::string& prefix_k, const std::string& prefix_v, bool remembers) {
  const ModelConfig& config = net.config();
  const Heads n = heads_of(config);
  const std::string name = layer(i, "self_attn");
  Point q = linear(net, name + ".q_proj", x, config.qkv_bias);
  Point k = linear(net, name + ".k_proj", x, config.qkv_bias);
  const Point v = linear(net, name + ".v_proj", x, config.qkv_bias);
  if (config.qk_norm) {
    q = head_norm(net, name + ".q_norm", q, n.q);
    k = head_norm(net, name + ".k_norm", k, n.kv);
  }
  q = rope(net, name + ":q_rope", q, n.q, tables);
  k = rope(net, name + ":k_rope", k, n.kv, tables);
  Qkv out;
  out.q = q;
  out.k_cache = cache_append(net, name + ":k_cache", k, prefix_k, false, remembers);
  out.v_cache = cache_append(net, name + ":v_cache", v, prefix_v, true, remembers);
  return out;
}

}  // namespace

Point self_attention(Net& net, std::int64_t i, const Point& x, const Tables& tables) {
  const ModelConfig& config = net.config();
  const std::string name = layer(i, "self_attn");
  const bool slides = config.sliding_layer[static_cast<std::size_t>(i)];
  const Point mask = slides ? tables.mask_sliding : tables.mask;
  const double scale = 1.0 / std::sqrt(static_cast<double>(config.head_dim));
  const EmptyRows empty_rows = net.context().empty_rows;
  const Types types = net.context().types;

  const Qkv qkv =
      project_and_cache(net, i, x, tables, name + ".prefix_k", name + ".prefix_v", true);
  if (const std::optional<SparseAttention> sparse = sparse_attention(config);
      sparse && sparse->sparse(i)) {
    const Point probs = sparse_probs(net, *sparse, i, qkv.q, qkv.k_cache, mask);
    const Point context = net.add({name + ":context",
                                   "context",
                                   {probs, qkv.v_cache},
                                   {},
                                   [](const Tensors& in, const Tensors&) {
                                     return join_heads(weighted_values(in[0], in[1]));
                                   }});
    return linear(net, name + ".o_proj", context, config.o_bias);
  }
  const Point scores = net.add(
      {name + ":scores",
       "scores",
       {qkv.q, qkv.k_cache},
       {},
       [scale](const Tensors& in, const Tensors&) { return scaled_scores(in[0], in[1], scale); }});
  const Point probs = net.add(
      {name + ":probs", "probs", {scores, mask}, {}, [=](const Tensors& in, const Tensors&) {
         return masked_softmax(in[0], in[1], empty_rows, types);
       }});
  const Point context = net.add({name + ":context",
                                 "context",
                                 {probs, qkv.v_cache},
                                 {},
                                 [](const Tensors& in, const Tensors&) {
                                   return join_heads(weighted_values(in[0], in[1]));
                                 }});
  return linear(net, name + ".o_proj", context, config.o_bias);
}

Point cross_kv_attention(Net& net, std::int64_t i, const Point& x, const Tables& tables,
                         const Point& mask) {
  const ModelConfig& config = net.config();
  const std::string name = layer(i, "self_attn");
  const double scale = 1.0 / std::sqrt(static_cast<double>(config.head_dim));
  const std::int64_t p = config.replicas;
  const EmptyRows empty_rows = net.context().empty_rows;
  const Types types = net.context().types;

  // No prefix in these layers; taken literally there is no cache either.
  const Qkv qkv = project_and_cache(net, i, x, tables, "", "", config.cross_kv_causal);
  const Point scores =
      net.add({name + ":scores",
               "scores",
               {qkv.q, qkv.k_cache},
               {},
               [=](const Tensors& in, const Tensors&) {
                 return scaled_scores(side_by_side(in[0], p), side_by_side(in[1], p), scale);
               }});  // [B,H,P*S,P*L]
  const Point probs = net.add(
      {name + ":probs", "probs", {scores, mask}, {}, [=](const Tensors& in, const Tensors&) {
         return masked_softmax(in[0], in[1], empty_rows, types);
       }});
  const Point context = net.add({name + ":context",
                                 "context",
                                 {probs, qkv.v_cache},
                                 {},
                                 [=](const Tensors& in, const Tensors&) {
                                   const at::Tensor values = side_by_side(in[1], p);
                                   return join_heads(by_replica(weighted_values(in[0], values), p));
                                 }});
  return linear(net, name + ".o_proj", context, config.o_bias);
}

}  // namespace ps::reference
