#include "reference/sparse/engine.h"

#include <stdexcept>

#include "reference/bridge.h"
#include "reference/sparse/blocks.h"

namespace ps::reference {

namespace {

at::Tensor doubles(const TensorView& view) { return borrow(view).to(at::kDouble).clone(); }
at::Tensor doubles(const Tensor& t) { return t.shape().empty() ? at::Tensor() : doubles(t.view()); }
Tensor handed(const at::Tensor& t) { return Tensor::copy_of(view_of(t.contiguous())); }
Tensor flags(const at::Tensor& t) { return handed(t.to(at::kByte)); }

std::optional<at::Tensor> mask_of(const SparseInputs& inputs) {
  if (!inputs.mask) return std::nullopt;
  return borrow(*inputs.mask);
}

// Runs `body`, which may throw: std::invalid_argument says what the caller did wrong.
template <class Body>
auto guarded(const Body& body) -> decltype(body()) {
  try {
    return body();
  } catch (const std::invalid_argument& e) {
    return bad_input("sparse reference", e.what());
  } catch (const std::exception& e) {
    return torch_error("sparse reference", e);
  }
}

Result<void> fits(const SparseConfig& c, const SparseInputs& in) {
  const Shape &q = in.q.shape, &k = in.k.shape, &v = in.v.shape;
  const bool ok = q.size() == 4 && k.size() == 4 && k == v && q[0] == k[0] && q[1] == c.heads &&
                  k[1] == c.kv_heads && q[3] == k[3] && q[2] >= 1 && q[2] <= k[2] &&
                  c.kv_heads > 0 && c.heads % c.kv_heads == 0;
  if (ok) return {};
  return bad_input("q, k, v", "shapes that do not belong together", "[B,H,Nq,D], [B,Hk,Nk,D] twice",
                   to_string(q) + ", " + to_string(k) + ", " + to_string(v));
}

}  // namespace

SparseReferenceEngine::SparseReferenceEngine(const SparseConfig& config,
                                             const SparseWeights& weights)
    : config_(config),
      sketch_(doubles(weights.sketch)),
      gate_wq_(doubles(weights.gate_wq)),
      gate_wk_(doubles(weights.gate_wk)) {}

Result<void> SparseReferenceEngine::in_order(std::int64_t layer, bool decode) const {
  const std::int64_t first = std::min(config_.skip, config_.layers);
  const bool known = layer <= first || layer == 0 || states_.contains(layer - 1);
  if (known && (!decode || states_.contains(layer))) return {};
  return bad_input("layer " + std::to_string(layer),
                   decode ? "a decode step before its prefill" : "layers must come in order");
}

Result<SparseLayer> SparseReferenceEngine::prefill(std::int64_t layer, const SparseInputs& in) {
  PS_TRY_VOID(fits(config_, in));
  PS_TRY_VOID(in_order(layer, false));
  return guarded([&]() -> Result<SparseLayer> {
    if (layer == 0) reset();
    states_.erase(states_.upper_bound(layer), states_.end());
    State& state = states_[layer];
    state = State();
    state.q = doubles(in.q), state.k = doubles(in.k), state.v = doubles(in.v);
    const std::int64_t queries = in.q.shape[2], keys = in.k.shape[2], past = keys - queries;
    const at::Tensor mask = token_mask(config_, mask_of(in), in.q.shape[0], queries, keys);
    state.mask = mask.any(2, true);
    state.q_valid = mask.any(3).any(1);
    return select(layer, state, mask, past, false);
  });
}

Result<SparseLayer> SparseReferenceEngine::decode(std::int64_t layer, const SparseInputs& in) {
  PS_TRY_VOID(fits(config_, in));
  PS_TRY_VOID(in_order(layer, true));
  return guarded([&]() -> Result<SparseLayer> {
    State& state = states_[layer];
    const std::int64_t batch = in.q.shape[0], past = state.k.size(2);
    if (in.q.shape[2] != 1 || in.k.shape[2] != 1) {
      throw std::invalid_argument("a decode step has one token");
    }
    state.q = at::cat({state.q, doubles(in.q)}, 2);
    state.k = at::cat({state.k, doubles(in.k)}, 2);
    state.v = at::cat({state.v, doubles(in.v)}, 2);
    const at::Tensor self = at::ones({batch, state.mask.size(1), 1, 1}, at::kBool);
    state.mask = at::cat({state.mask, self}, 3);
    state.q_valid = at::cat({state.q_valid, at::ones({batch, 1}, at::kBool)}, 1);
    at::Tensor mask = state.mask;
    if (const auto given = mask_of(in)) {
      mask = token_mask(config_, given, batch, 1, past + 1);
    }
    return select(layer, state, mask, past, true);
  });
}

// `mask` is that of the queries from `past` on.
SparseLayer SparseReferenceEngine::select(std::int64_t layer, State& state, const at::Tensor& mask,
                                          std::int64_t past, bool decode) {
  SparseLayer out;
  const at::Tensor q = state.q.slice(2, decode ? past : 0);
  const std::int64_t queries = q.size(2), keys = state.k.size(2), first = past / config_.block;
  at::Tensor seen = mask;
  const bool walks = config_.selector == SparseSelector::kWalk;
  const at::Tensor per_head = block_any(mask, config_.block, past);
  const at::Tensor shared = per_head.any(1);  // [B,rows,n]
  if (walks) {
    // Earlier block rows stay as they were; what is known of the last one grows with it.
    const std::int64_t n = config_.blocks(keys);
    at::Tensor blocks = at::zeros({q.size(0), n, n}, at::kBool);
    if (decode) {
      const at::Tensor& old = state.blocks;
      blocks.slice(1, 0, old.size(1)).slice(2, 0, old.size(2)).copy_(old);
    }
    blocks.slice(1, first, first + shared.size(1)).logical_or_(shared);
    state.blocks = blocks;
  }
  if (layer >= config_.skip) {
    if (walks) {
      const std::int64_t since = decode ? 0 : past;  // a decode step has all queries at hand
      const at::Tensor k_valid = state.mask.any(1).squeeze(1);
      const Pooled kb = pool_mean(state.k.mean(1), k_valid, config_.block, 0);
      at::Tensor qb = pool_mean(state.q.mean(1), state.q_valid, config_.block, since).mean;
      if (!decode) {
        const at::Tensor none = at::zeros({qb.size(0), first, qb.size(2)}, qb.options());
        qb = at::cat({none, qb}, 1);
      } else {
        // The newest queries of the block speak for it.
        const std::int64_t from = std::max(first * config_.block, keys - config_.decode_window);
        const Pooled newest =
            pool_mean(state.q.mean(1).slice(1, from), state.q_valid.slice(1, from), keys - from, 0);
        qb = qb.clone();
        qb.slice(1, first, first + 1).copy_(newest.mean);
      }
      out.key_blocks = handed(kb.mean);
      walk_layer(layer, state, first, out, qb, kb.mean);
    } else {
      const at::Tensor allowed = per_head.expand({q.size(0), config_.heads, -1, -1});
      const at::Tensor q_valid = state.q_valid.slice(1, state.q_valid.size(1) - queries);
      const at::Tensor k_valid = state.mask.any(1).squeeze(1);
      const at::Tensor scores =
          gate_scores(config_, q, state.k, q_valid, k_valid, gate_wq_, gate_wk_, allowed, past);
      out.lists = select_gate(config_, scores, allowed, first, decode);
      out.scores = handed(scores.flatten(0, 1));
      out.block_allowed = flags(allowed.flatten(0, 1));
    }
    seen = mask.logical_and(tokens_of(out.lists, config_.block, queries, keys));
  }
  out.out = handed(reference::attend(q, state.k, state.v, seen, {}).out);
  return out;
}

void SparseReferenceEngine::walk_layer(std::int64_t layer, State& state, std::int64_t first,
                                       SparseLayer& out, const at::Tensor& q_blocks,
                                       const at::Tensor& k_blocks) {
  const at::Tensor& allowed = state.blocks;
  const at::Tensor scores = sketch_scores(q_blocks, k_blocks, sketch_);
  state.w = transition(scores, allowed, config_.exponent);
  state.log_w = log_transition(scores, allowed, config_.exponent);
  const std::int64_t start = std::min(config_.skip, layer);
  const auto before = states_.find(layer - 1);
  if (config_.depth == 0 && layer > start && before != states_.end()) {
    state.r = walk_on(before->second.r, state.w, allowed, config_.damping);
    state.log_r = log_walk_on(before->second.log_r, state.log_w, allowed, config_.damping);
  } else {
    const std::int64_t from =
        config_.depth == 0 ? layer : std::max(start, layer - config_.depth + 1);
    std::vector<at::Tensor> w, log_w;
    for (std::int64_t l = from; l <= layer; ++l) {
      w.push_back(states_[l].w);
      log_w.push_back(states_[l].log_w);
    }
    state.r = walk(w, allowed, config_.damping);
    state.log_r = log_walk(log_w, allowed, config_.damping);
  }
  const auto rows = [&](const at::Tensor& t) { return t.slice(1, first).contiguous(); };
  out.lists = select_walk(config_, rows(state.r).unsqueeze(1), rows(allowed).unsqueeze(1), first);
  out.block_allowed = flags(rows(allowed));
  out.scores = handed(rows(scores));
  out.transition = handed(rows(state.w));
  out.walk = handed(rows(state.r));
  out.log_walk = handed(rows(state.log_r));
}

Result<SparseAttended> SparseReferenceEngine::attend(const SparseInputs& in,
                                                     const TensorView& within) {
  PS_TRY_VOID(fits(config_, in));
  if (!in.mask || within.shape != in.mask->shape) {
    return bad_input("attend", "needs a mask, and the same shape to look within");
  }
  return guarded([&]() -> Result<SparseAttended> {
    const Attention a = reference::attend(doubles(in.q), doubles(in.k), doubles(in.v),
                                          borrow(*in.mask).ne(0), borrow(within).ne(0));
    return SparseAttended{handed(a.out), handed(a.mass)};
  });
}

Result<SparseGradients> SparseReferenceEngine::gradients(const SparseInputs& in,
                                                         const TensorView& g) {
  PS_TRY_VOID(fits(config_, in));
  if (!in.mask || g.shape != in.q.shape) {
    return bad_input("gradients", "needs a mask, and a g of the output's shape");
  }
  return guarded([&]() -> Result<SparseGradients> {
    const at::AutoGradMode on(true);
    std::vector<at::Tensor> leaves = {doubles(in.q), doubles(in.k), doubles(in.v)};
    for (at::Tensor& leaf : leaves) leaf.requires_grad_(true);
    const at::Tensor out =
        reference::attend(leaves[0], leaves[1], leaves[2], borrow(*in.mask).ne(0), {}).out;
    (out * doubles(g)).sum().backward();
    return SparseGradients{handed(leaves[0].grad()), handed(leaves[1].grad()),
                           handed(leaves[2].grad())};
  });
}

}  // namespace ps::reference
