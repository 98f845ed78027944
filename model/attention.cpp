// Self attention: projections, rotation, cache, and products around a mask and a softmax, over
// blocks of queries. Blocks are the same whether scores and probs are tapped or not, and so are the
// bits.
#include <algorithm>
#include <cmath>

#include "model/forward.h"

namespace ps {
namespace {

constexpr std::int64_t kBlockBytes = std::int64_t{1} << 25;  // of scores and probs together

// [row, token, heads * dim] as [row, head, token, dim].
Array by_head(const Array& x, std::int64_t dim) { return x.split(2, dim).transposed(1, 2); }

}  // namespace

Array Forward::self_attention(std::int64_t index, const Array& x) {
  const auto i = static_cast<std::size_t>(index);
  const AttentionWeights& weights = state_.weights.layers[i].self;
  const std::string name = "model.layers." + std::to_string(index) + ".self_attn";
  const std::int64_t dim = config_.head_dim;

  Array q = linear(name + ".q_proj", x, weights.q).split(2, dim);  // [row, token, head, dim]
  Array k = linear(name + ".k_proj", x, weights.k).split(2, dim);
  const Array v = by_head(linear(name + ".v_proj", x, weights.v), dim);
  if (config_.qk_norm) {
    q = norm(name + ".q_norm", q, weights.q_norm);
    k = norm(name + ".k_norm", k, weights.k_norm);
  }
  q = rotated(name + ":q_rope", q);  // [row, head, token, dim]
  k = rotated(name + ":k_rope", k);

  const bool cross_kv = config_.cross_kv_layer[i];
  const bool cached = !cross_kv || config_.cross_kv_causal;
  Array keys = k, values = v;
  if (cached) {
    cache_.append(i, k, v);
    keys = cache_.keys(i);
    values = cache_.values(i);
    emit(name + ":k_cache", keys);
    emit(name + ":v_cache", values);
  }
  const AttentionPoints points{name + ":scores", name + ":probs", name + ":context"};
  Array context;  // [row, token, head * dim]
  if (cross_kv) {
    context = cross_kv_context(points, q, keys, values);
  } else if (sparse_layer(index)) {
    context = take({rows_, tokens_, config_.heads * dim});
    attend_blocks(index, name, q, keys, values, by_head(context, dim));
  } else {
    const bool slides = config_.sliding_window > 0 && config_.sliding_layer[i];
    context = take({rows_, tokens_, config_.heads * dim});
    attend(points, slides ? sliding_ : full_, q, keys, values, by_head(context, dim));
  }
  hand_out(points.context, context);
  return row_linear(name + ".o_proj", context, weights.o);
}

Array Forward::rotated(const std::string& point, const Array& x) {
  const Array heads_first = x.transposed(1, 2);  // [row, head, token, dim]
  const Array out =
      take({heads_first.size(0), heads_first.size(1), heads_first.size(2), heads_first.size(3)});
  backend_.run(Op::rope, {heads_first, cosine_, sine_, out}, {});
  emit(point, out);
  return out;
}

void Forward::attend(const AttentionPoints& points, MaskKind& mask, const Array& q,
                     const Array& keys, const Array& values, const Array& context) {
  const std::int64_t rows = q.size(0), heads = q.size(1), queries = q.size(2), cols = keys.size(2);
  const float scale = 1.f / std::sqrt(static_cast<float>(q.size(3)));
  const bool tap_scores = tap_.wants(points.scores);
  const bool tap_probs = tap_.wants(points.probs);
  const Array all_scores = tap_scores ? take({rows, heads, queries, cols}) : Array();
  const Array all_probs = tap_probs ? take({rows, heads, queries, cols}) : Array();

  const std::int64_t query_bytes =
      std::max<std::int64_t>(1, rows * heads * cols * 2 * size_of(state_.options.dtype));
  const std::int64_t block = std::clamp<std::int64_t>(kBlockBytes / query_bytes, 1, queries);
  for (std::int64_t first = 0; first < queries; first += block) {
    const Arena::Scope scope(arena_);
    const std::int64_t count = std::min(block, queries - first);
    const Array scores = take({rows, heads, count, cols}), probs = take({rows, heads, count, cols});
    const Array queries_here = q.narrowed(2, first, count),
                context_here = context.narrowed(2, first, count);
    backend_.gemm(folded(plan_scores(queries_here, keys, scale, scores)), keys, queries_here, {},
                  scores);
    planted(points.scores, scores, {queries_here, keys});
    if (tap_scores)
      backend_.run(Op::copy_rows, {scores, all_scores.narrowed(2, first, count)}, {1});
    const Array seen = mask_block(mask, first, count);
    backend_.run(Op::softmax, {scores, seen, probs},
                 {static_cast<double>(state_.options.empty_rows)});
    planted(points.probs, probs, {scores, seen});
    if (tap_probs) backend_.run(Op::copy_rows, {probs, all_probs.narrowed(2, first, count)}, {1});
    backend_.gemm(folded(plan_context(probs, values, context_here)), values, probs, {},
                  context_here);
    planted(points.context, context_here, {probs, values});
  }
  if (tap_scores) hand_out(points.scores, all_scores);
  if (tap_probs) hand_out(points.probs, all_probs);
}

// Queries and keys of all replicas of a sample side by side: flattened index p*S + t, p*K + j
// (parscale.md 5). keys, values: [row, kv_head, key, dim].
Array Forward::cross_kv_context(const AttentionPoints& points, const Array& q, const Array& keys,
                                const Array& values) {
  const std::int64_t replicas = config_.replicas, dim = config_.head_dim, count = keys.size(2);
  const Array flat_q = take({batch_, config_.heads, replicas * tokens_, dim});
  const Array flat_k = take({batch_, config_.kv_heads, replicas * count, dim});
  const Array flat_v = take({batch_, config_.kv_heads, replicas * count, dim});
  const Array flat_context = take({batch_, config_.heads, replicas * tokens_, dim});
  const Array context = take({rows_, tokens_, config_.heads * dim});
  for (std::int64_t p = 0; p < replicas; ++p) {
    backend_.run(Op::copy_rows,
                 {q.narrowed(0, p * batch_, batch_), flat_q.narrowed(2, p * tokens_, tokens_)},
                 {1});
    backend_.run(Op::copy_rows,
                 {keys.narrowed(0, p * batch_, batch_), flat_k.narrowed(2, p * count, count)}, {1});
    backend_.run(Op::copy_rows,
                 {values.narrowed(0, p * batch_, batch_), flat_v.narrowed(2, p * count, count)},
                 {1});
  }
  attend(points, cross_kv_, flat_q, flat_k, flat_v, flat_context);
  for (std::int64_t p = 0; p < replicas; ++p) {
    backend_.run(Op::copy_rows,
                 {flat_context.narrowed(2, p * tokens_, tokens_),
                  by_head(context, dim).narrowed(0, p * batch_, batch_)},
                 {1});
  }
  return context;
}

}  // namespace ps
