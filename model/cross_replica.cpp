// Cross-replica attention (parscale.md section 5): every token attends its own copies in the other
// replicas. No mask, no cache, no position but the replica's.
#include <cmath>

#include "model/forward.h"

namespace ps {

void Forward::replica_tables() {
  if (!state_.replica_inv_freq) return;
  const std::int64_t dim = config_.cross_head_dim();
  replica_cosine_ = arena_.take(DType::kF32, {batch_, config_.replicas, dim});
  replica_sine_ = arena_.take(DType::kF32, {batch_, config_.replicas, dim});
  backend_.run(Op::replica_rope_tables, {state_.replica_inv_freq, replica_cosine_, replica_sine_},
               {});
  emit("model.replica_rope:cos", replica_cosine_);
  emit("model.replica_rope:sin", replica_sine_);
}

Array Forward::cross_replica(std::int64_t index, const Array& input) {
  const LayerWeights& layer = state_.weights.layers[static_cast<std::size_t>(index)];
  const AttentionWeights& weights = layer.cross;
  const std::string name = "model.layers." + std::to_string(index);
  const std::string attention = name + ".cross_replica_attn";
  const std::int64_t replicas = config_.replicas, dim = config_.cross_head_dim();
  const std::int64_t heads = config_.heads, kv_heads = config_.kv_heads;

  // [row, token, heads * dim] as [sample, token, head, replica, dim].
  const auto by_replica = [&](const Array& x, std::int64_t count) {
    return x.reshaped({replicas, batch_, tokens_, count, dim}).permuted({1, 2, 3, 0, 4});
  };
  const Array x = norm(name + ".cross_replica_layernorm", input, layer.cross_norm);
  const Array q_proj = linear(attention + ".q_proj", x, weights.q);
  const Array k_proj = linear(attention + ".k_proj", x, weights.k);
  const Array v = by_replica(linear(attention + ".v_proj", x, weights.v), kv_heads);
  // Queries and keys, regrouped, and rotated where there is a replica RoPE.
  const auto regrouped = [&](const char* point, const Array& proj, std::int64_t count) {
    const Array out = take({batch_, tokens_, count, replicas, dim});
    if (state_.replica_inv_freq) {
      backend_.run(Op::replica_rope, {by_replica(proj, count), replica_cosine_, replica_sine_, out},
                   {});
    } else {
      const std::int64_t places = batch_ * tokens_;
      backend_.run(Op::copy_rows,
                   {proj.reshaped({replicas, places, count, dim}).permuted({1, 2, 0, 3}),
                    out.reshaped({places, count, replicas, dim})},
                   {1});
    }
    emit(attention + point, out);
    return out;
  };
  const Array q = regrouped(":q_rope", q_proj, heads);
  const Array k = regrouped(":k_rope", k_proj, kv_heads);
  const Array probs = take({batch_, tokens_, heads, replicas, replicas});
  backend_.run(Op::cross_probs, {q, k, probs}, {1.0 / std::sqrt(static_cast<double>(dim))});
  emit(attention + ":probs", probs);
  const Array context = take({rows_, tokens_, heads * dim});
  backend_.run(Op::cross_context, {probs, v, by_replica(context, heads)}, {});
  emit(attention + ":context", context);
  return row_linear(attention + ".o_proj", context, weights.o);
}

}  // namespace ps
