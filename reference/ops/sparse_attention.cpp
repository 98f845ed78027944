#include "reference/ops/sparse_attention.h"

#include "reference/bridge.h"
#include "reference/ops/blocks.h"
#include "reference/sparse/blocks.h"

namespace ps::reference {

BlockSteps block_steps(const StepContext& c, const SparseConfig& config) {
  BlockSteps s;
  s.block = config.block;
  s.past = c.past;
  s.total = c.past + c.length();
  s.blocks = config.blocks(s.total);
  s.first = c.past / config.block;
  s.decode = c.past > 0 && c.length() == 1;
  return s;
}

at::Tensor real_tokens(const StepContext& c) {
  const std::int64_t total = c.past + c.length();
  if (!c.inputs->attention_mask) return at::ones({c.batch(), total}, at::kBool);
  return from_int64(*c.inputs->attention_mask, {c.batch(), total}).ne(0);
}

at::Tensor by_rows(const StepContext& c, const at::Tensor& of_samples) {
  std::vector<std::int64_t> times(static_cast<std::size_t>(of_samples.dim()), 1);
  times[0] = c.rows() / of_samples.size(0);  // rows are replica-major
  return of_samples.repeat(times);
}

at::Tensor sketch_of(const SparseAttention& sparse, const Tensors& w, at::ScalarType type) {
  if (!w.empty()) return w[0].to(type);
  return borrow(seeded_sparse_weights(sparse, 0).sketch.view()).to(type).clone();
}

std::pair<at::Tensor, at::Tensor> gates_of(const SparseAttention& sparse, std::int64_t layer,
                                           const Tensors& w, at::ScalarType type) {
  if (w.size() == 2) return {w[0].to(type), w[1].to(type)};
  const SparseWeights made = seeded_sparse_weights(sparse, layer);
  return {borrow(made.gate_wq.view()).to(type).clone(),
          borrow(made.gate_wk.view()).to(type).clone()};
}

at::Tensor log_transitions(const at::Tensor& scores, const at::Tensor& allowed, double exponent) {
  const at::Tensor masked = scores.masked_fill(allowed.logical_not(), -HUGE_VAL);
  const at::Tensor log_p = masked - masked.logsumexp(-1, true);
  return at::where(allowed, log_p * exponent, 0.0);
}

at::Tensor log_walks(const at::Tensor& before, const std::vector<at::Tensor>& steps,
                     const at::Tensor& allowed, double damping) {
  const auto open = [&](const at::Tensor& t) {
    return t.masked_fill(allowed.logical_not(), -HUGE_VAL);
  };
  at::Tensor r;
  std::vector<at::Tensor> masked;
  for (const at::Tensor& step : steps) masked.push_back(open(step));
  if (before.defined()) {
    r = open(before);
    for (const at::Tensor& step : masked) r = log_walk_on(r, step, allowed, damping);
  } else {
    r = log_walk(masked, allowed, damping);
  }
  return at::where(allowed, r, 0.0);
}

at::Tensor selected(const SparseConfig& config, const at::Tensor& scores, const at::Tensor& allowed,
                    const BlockSteps& steps) {
  const at::Tensor wide = scores.to(at::kDouble);
  const at::Tensor open = allowed.expand_as(wide);
  const BlockLists lists = config.selector == SparseSelector::kWalk
                               ? select_walk(config, wide, open, steps.first)
                               : select_gate(config, wide, open, steps.first, steps.decode);
  at::Tensor out = at::zeros(wide.sizes(), at::kDouble);
  double* cell = out.mutable_data_ptr<double>();
  for (const auto& list : lists.lists) {
    for (const std::int32_t j : list) cell[j] = 1;
    cell += wide.size(3);
  }
  return out;
}

at::Tensor selected_from(const StepContext& c, const SparseConfig& config, const Tensors& in) {
  const BlockSteps steps = block_steps(c, config);
  const bool walks = config.selector == SparseSelector::kWalk;
  const at::Tensor scores = walks ? in[0].slice(1, steps.first).unsqueeze(1) : in[0];
  const at::Tensor open = by_rows(c, in[1].ne(0)).slice(1, steps.first).unsqueeze(1);
  return selected(config, scores, open, steps).to(c.types.model);
}

at::Tensor selected_columns(const StepContext& c, const BlockSteps& steps,
                            const at::Tensor& block_mask) {
  const at::Tensor token = at::arange(steps.total);
  const at::Tensor row =
      at::floor_divide(token.slice(0, steps.past), steps.block) - steps.first;  // [S]
  const at::Tensor column = at::floor_divide(token, steps.block);               // [L]
  const at::Tensor tokens = block_mask.ne(0).index_select(2, row).index_select(3, column);
  const at::Tensor prefix = at::ones(
      {tokens.size(0), tokens.size(1), tokens.size(2), c.config->prefix_tokens}, at::kBool);
  return at::cat({prefix, tokens}, -1);
}

Point block_allowed(Net& net, const SparseAttention& sparse) {
  const StepContext c = net.context();
  return net.add(
      {"model:block_allowed", "block_allowed", {}, {}, [=](const Tensors&, const Tensors&) {
         const BlockSteps steps = block_steps(c, sparse.config);
         const at::Tensor real = real_tokens(c);  // [B,L]
         const at::Tensor position = at::arange(steps.total);
         const at::Tensor pairs =
             real.unsqueeze(2)
                 .logical_and(real.unsqueeze(1))
                 .logical_and(position.unsqueeze(0) <= position.unsqueeze(1));  // [B,L,L]
         return block_any(pairs.unsqueeze(1), steps.block, 0).squeeze(1);
       }});
}

namespace {

// Means of blocks over the real tokens; the first block of a decode step's query is the mean of the
// newest queries alone.
at::Tensor query_block_means(const StepContext& c, const SparseConfig& config,
                             const at::Tensor& means) {  // [R,1,L,D]
  const BlockSteps steps = block_steps(c, config);
  const at::Tensor each = means.squeeze(1), real = by_rows(c, real_tokens(c));
  at::Tensor out = pool_mean(each, real, steps.block, 0).mean;
  if (!steps.decode) return out;
  const std::int64_t from = std::max(steps.first * steps.block, steps.total - config.decode_window);
  const at::Tensor newest =
      pool_mean(each.slice(1, from), real.slice(1, from), steps.total - from, 0).mean;
  out = out.clone();
  out.slice(1, steps.first, steps.first + 1).copy_(newest);
  return out;
}

// bool [R,n,n].
at::Tensor allowed_rows(const StepContext& c, const at::Tensor& allowed) {
  return by_rows(c, allowed.ne(0));
}

Point walk_mask(Net& net, const SparseAttention& sparse, std::int64_t layer, const Point& q,
                const Point& k_cache) {
  const StepContext c = net.context();
  const SparseConfig config = sparse.config;
  const at::ScalarType wide = c.types.island;
  const std::string name = reference::layer(layer, "self_attn");
  const Point means = name + ":q_mean_cache";
  std::vector<Point> history = {q};
  if (!c.cache_empty) history.push_back(past_of(means));
  net.add({means, "block_query_means", history, {}, [wide](const Tensors& in, const Tensors&) {
             const at::Tensor now = in[0].to(wide).mean(1, true);
             return in.size() == 2 ? at::cat({in[1].to(wide), now}, 2) : now;
           }});
  const Point q_blocks = net.add(
      {name + ":query_blocks", "block_means", {means}, {}, [=](const Tensors& in, const Tensors&) {
         return query_block_means(c, config, in[0].to(wide));
       }});
  const Point k_blocks = net.add(
      {name + ":key_blocks", "block_means", {k_cache}, {}, [=](const Tensors& in, const Tensors&) {
         const at::Tensor tokens = in[0].slice(2, c.config->prefix_tokens).to(wide);
         return pool_mean(tokens.mean(1), by_rows(c, real_tokens(c)), config.block, 0).mean;
       }});
  std::vector<std::string> stored;
  if (!sparse.seed) stored.push_back(sketch_name());
  const Point scores =
      net.add({name + ":block_scores",
               "block_scores",
               {q_blocks, k_blocks},
               stored,
               [=](const Tensors& in, const Tensors& w) {
                 return sketch_scores(in[0].to(wide), in[1].to(wide), sketch_of(sparse, w, wide));
               }});
  const Point allowed = "model:block_allowed";
  const Point transition =
      net.add({name + ":block_transition",
               "block_transition",
               {scores, allowed},
               {},
               [=](const Tensors& in, const Tensors&) {
                 return log_transitions(in[0].to(wide), allowed_rows(c, in[1]), config.exponent);
               }});
  // All layers before this one are in the walk of the one before; or the last `depth` anew.
  std::vector<Point> inputs = {allowed};
  const bool goes_on = config.depth == 0 && layer > config.skip;
  if (goes_on) inputs.push_back(reference::layer(layer - 1, "self_attn") + ":block_walk");
  for (std::int64_t l = std::max(config.skip, layer - config.depth + 1);
       config.depth > 0 && l < layer; ++l) {
    inputs.push_back(reference::layer(l, "self_attn") + ":block_transition");
  }
  inputs.push_back(transition);
  const Point walk = net.add(
      {name + ":block_walk", "block_walk", inputs, {}, [=](const Tensors& in, const Tensors&) {
         std::vector<at::Tensor> steps;
         for (std::size_t i = goes_on ? 2 : 1; i < in.size(); ++i) steps.push_back(in[i].to(wide));
         return log_walks(goes_on ? in[1].to(wide) : at::Tensor(), steps, allowed_rows(c, in[0]),
                          config.damping);
       }});
  return net.add({name + ":block_mask",
                  "block_mask",
                  {walk, allowed},
                  {},
                  [=](const Tensors& in, const Tensors&) { return selected_from(c, config, in); }});
}

Point gate_mask(Net& net, const SparseAttention& sparse, std::int64_t layer, const Point& q,
                const Point& k_cache) {
  const StepContext c = net.context();
  const SparseConfig config = sparse.config;
  const at::ScalarType wide = c.types.island;
  const std::string name = reference::layer(layer, "self_attn");
  const Point pq = net.add(
      {name + ":query_pools", "block_pools", {q}, {}, [=](const Tensors& in, const Tensors&) {
         const at::Tensor real = by_rows(c, real_tokens(c)).slice(1, c.past);
         return pooled_channels(config.pool, in[0].to(wide), real, config.block, c.past);
       }});
  const Point pk = net.add(
      {name + ":key_pools", "block_pools", {k_cache}, {}, [=](const Tensors& in, const Tensors&) {
         const at::Tensor tokens = in[0].slice(2, c.config->prefix_tokens).to(wide);
         return pooled_channels(config.pool, tokens, by_rows(c, real_tokens(c)), config.block, 0);
       }});
  std::vector<std::string> stored;
  if (!sparse.seed) stored = {gate_name(layer, 'q'), gate_name(layer, 'k')};
  const Point allowed = "model:block_allowed";
  const auto open = [=](const at::Tensor& all) {
    const BlockSteps steps = block_steps(c, config);
    return allowed_rows(c, all)
        .slice(1, steps.first)
        .unsqueeze(1)
        .expand({-1, config.heads, -1, -1});
  };
  const Point scores =
      net.add({name + ":block_scores",
               "block_gate_scores",
               {pq, pk, allowed},
               stored,
               [=](const Tensors& in, const Tensors& w) {
                 const auto [wq, wk] = gates_of(sparse, layer, w, wide);
                 return gate_probabilities(in[0].to(wide), in[1].to(wide), wq, wk, open(in[2]));
               }});
  return net.add({name + ":block_mask",
                  "block_mask",
                  {scores, allowed},
                  {},
                  [=](const Tensors& in, const Tensors&) { return selected_from(c, config, in); }});
}

}  // namespace

Point sparse_probs(Net& net, const SparseAttention& sparse, std::int64_t layer, const Point& q,
                   const Point& k_cache, const Point& mask) {
  const StepContext c = net.context();
  const SparseConfig config = sparse.config;
  const double scale = 1.0 / std::sqrt(static_cast<double>(c.config->head_dim));
  const Point blocks = sparse.walks() ? walk_mask(net, sparse, layer, q, k_cache)
                                      : gate_mask(net, sparse, layer, q, k_cache);
  // A query that no selected key is left for gives zeros, whatever the convention elsewhere.
  return net.add({reference::layer(layer, "self_attn") + ":probs",
                  "sparse_probs",
                  {q, k_cache, mask, blocks},
                  {},
                  [=](const Tensors& in, const Tensors&) {
                    const at::Tensor columns = selected_columns(c, block_steps(c, config), in[3]);
                    return masked_softmax(scaled_scores(in[0], in[1], scale),
                                          in[2].ne(0).logical_and(columns), EmptyRows::kZeros,
                                          c.types);
                  }});
}

}  // namespace ps::reference
