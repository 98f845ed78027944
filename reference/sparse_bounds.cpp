#include "reference/sparse_bounds.h"

#include "reference/ops/blocks.h"
#include "reference/ops/sparse_attention.h"
#include "reference/sparse/blocks.h"

namespace ps::reference {

namespace {

constexpr double kNearTie = 1e-4;  // spec sparse.md 5: rows below it may differ

// Steps of a sum of n terms, each rounded once; as for all other ops.
double steps_of(double n, const RoundingUnits& u) {
  return std::max(4.0, 0.75 * u.lambda * std::sqrt(n));
}

// A mean over n values of x: sum and division, from the root of the mean square.
at::Tensor mean_bound(double n, const at::Tensor& out, const at::Tensor& mean_square,
                      const RoundingUnits& u) {
  const at::Tensor rms = mean_square.clamp_min(0).sqrt();
  return (out.abs() + rms) * ((steps_of(n, u) + 2.0) * u.accumulate) + u.floor;
}

// a.b over the last axis, scaled, from the errors of a and b: [..,i,x] and [..,j,x] -> [..,i,j].
at::Tensor product_bound(const at::Tensor& a, const at::Tensor& a_error, const at::Tensor& b,
                         const at::Tensor& b_error, double scale, const RoundingUnits& u) {
  const auto turned = [](const at::Tensor& t) { return t.transpose(-1, -2); };
  const at::Tensor passed_on =
      at::matmul(a_error, turned(b.abs())) + at::matmul(a.abs(), turned(b_error));
  const at::Tensor own =
      at::matmul(a * a, turned(b * b)).clamp_min(0).sqrt() + at::matmul(a, turned(b)).abs();
  const double n = static_cast<double>(a.size(-1));
  return (passed_on + own * (steps_of(n, u) * u.accumulate)) * std::fabs(scale) + u.floor;
}

// x W and its error, W [..,in,out].
std::pair<at::Tensor, at::Tensor> projected(const at::Tensor& x, const at::Tensor& w,
                                            const RoundingUnits& u) {
  const at::Tensor y = at::matmul(x, w);
  const at::Tensor squares = at::matmul(x * x, w * w).clamp_min(0).sqrt();
  const double n = static_cast<double>(x.size(-1));
  return {y, (y.abs() + squares) * (steps_of(n, u) * u.accumulate)};
}

at::Tensor walk_scores_bound(const SparseAttention& sparse, const Tensors& in, const Tensors& w,
                             const RoundingUnits& u) {
  const at::Tensor sketch = sketch_of(sparse, w, in[0].scalar_type());
  const auto [q, q_error] = projected(in[0], sketch, u);
  const auto [k, k_error] = projected(in[1], sketch, u);
  return product_bound(q, q_error, k, k_error, 1.0 / std::sqrt(static_cast<double>(sketch.size(1))),
                       u);
}

// A softmax passes on at most twice the largest error of its row, times p.
at::Tensor softmax_of(const at::Tensor& scores, const at::Tensor& score_error,
                      const at::Tensor& out, double result, const RoundingUnits& u) {
  const double n = static_cast<double>(scores.size(-1));
  const at::Tensor finite = at::nan_to_num(scores, 0.0, 0.0, 0.0).abs();
  const at::Tensor relative = (finite + finite.amax(-1, true)) * (2.0 * u.accumulate) +
                              (8.0 + 0.41 * u.lambda * std::sqrt(n)) * u.accumulate;
  return out.abs() * (relative + 2.0 * score_error.amax(-1, true) + result) + u.floor;
}

at::Tensor gate_scores_bound(const SparseAttention& sparse, std::int64_t layer, const Tensors& in,
                             const Tensors& w, const at::Tensor& out, const RoundingUnits& u) {
  const auto [wq, wk] = gates_of(sparse, layer, w, in[0].scalar_type());
  const auto [q, q_error] = projected(in[0], wq, u);
  const at::Tensor keys = in[1].repeat_interleave(in[0].size(1) / in[1].size(1), 1);
  const auto [k, k_error] = projected(keys, wk, u);
  const double scale = 1.0 / std::sqrt(static_cast<double>(wq.size(-1)));
  const at::Tensor error = product_bound(q, q_error, k, k_error, scale, u);
  return softmax_of(at::matmul(q, k.transpose(-1, -2)) * scale, error, out, u.accumulate, u);
}

at::Tensor transition_bound(const SparseConfig& config, const at::Tensor& scores,
                            const at::Tensor& out, const RoundingUnits& u) {
  const double n = static_cast<double>(scores.size(-1));
  const at::Tensor size = scores.abs().amax(-1, true);
  const double sum = 10.0 + 0.41 * u.lambda * std::sqrt(n);
  return (size * 8.0 + sum) * (config.exponent * u.accumulate) + out.abs() * (4.0 * u.accumulate);
}

// Each cell is a logarithm of a sum of exponentials; what goes in is as large as its logarithms
// are.
at::Tensor walk_bound(const Tensors& in, const at::Tensor& out, const RoundingUnits& u) {
  at::Tensor size = at::zeros_like(out.select(-1, 0)).unsqueeze(-1);
  for (std::size_t i = 1; i < in.size(); ++i) {
    size = size + at::nan_to_num(in[i], 0.0, 0.0, 0.0).abs().amax(-1, true).amax(-2, true);
  }
  const double n = static_cast<double>(out.size(-1));
  const double layers = static_cast<double>(in.size());
  const at::Tensor each = (size * 4.0 + 12.0 + u.lambda * std::sqrt(n)) * (layers * u.accumulate);
  return each + at::nan_to_num(out, 0.0, 0.0, 0.0).abs() * (8.0 * u.accumulate);
}

at::Tensor probs_bound(const StepContext& c, const Tensors& in, const at::Tensor& out,
                       const RoundingUnits& u) {
  const double scale = 1.0 / std::sqrt(static_cast<double>(c.config->head_dim));
  const at::Tensor scores = scaled_scores(in[0], in[1], scale);
  const at::Tensor squares = scaled_scores(in[0] * in[0], in[1] * in[1], scale * scale);
  const at::Tensor size = squares.clamp_min(0).sqrt();
  const double n = static_cast<double>(c.config->head_dim);
  const at::Tensor error = (scores.abs() + size) * (steps_of(n, u) * u.accumulate) +
                           scores.abs() * (2.02 * u.result) + size * (0.5 * u.lambda * u.result);
  const at::Tensor seen = error.masked_fill(out.eq(0), 0.0);
  return softmax_of(scores.masked_fill(out.eq(0), 0.0), seen, out, u.result, u);
}

}  // namespace

at::Tensor near_ties(const SparseAttention& sparse, const StepContext& c, const Tensors& in,
                     const at::Tensor& out, const at::Tensor& slack) {
  const BlockSteps steps = block_steps(c, sparse.config);
  const bool walks = sparse.walks();
  const auto of_rows = [&](const at::Tensor& x) {
    return walks ? x.slice(1, steps.first).unsqueeze(1) : x;
  };
  const at::Tensor scores = of_rows(in[0].to(at::kDouble));
  const at::Tensor allowed =
      by_rows(c, in[1].ne(0)).slice(1, steps.first).unsqueeze(1).expand_as(scores);
  const at::Tensor nothing = at::full_like(scores, -HUGE_VAL);
  const at::Tensor s = at::where(allowed, walks ? scores : scores.log(), nothing);
  at::Tensor off = at::full_like(scores, kNearTie / 2);
  if (slack.defined()) off = off + of_rows(slack);
  at::Tensor near;
  if (!walks && sparse.config.gate == GateRule::kThreshold) {
    near = (s - std::log(std::max(sparse.config.threshold, 1e-300))).abs() < off + kNearTie / 2;
  } else {
    // A block that was rejected and one that was taken, each of which may be the better one. Forced
    // blocks are among the taken: those below all that compete are not what anything lost to.
    const at::Tensor taken = out.gt(0.5);
    const at::Tensor low = s - off, high = s + off;
    const at::Tensor best_out = at::where(taken, nothing, low).amax(-1, true);
    const at::Tensor competes = taken.logical_and(high >= best_out);
    const at::Tensor least_in = at::where(competes, low, -nothing).amin(-1, true);
    const at::Tensor most_out = at::where(taken, nothing, high).amax(-1, true);
    near = at::where(taken, competes.logical_and(low <= most_out), high >= least_in);
  }
  return at::where(near.logical_and(allowed), 1.01, 0.0);
}

at::Tensor sparse_bound(const Op& op, const StepContext& c, const Tensors& in, const Tensors& w,
                        const at::Tensor& out, const RoundingUnits& u) {
  const SparseAttention sparse = *sparse_attention(*c.config);
  const SparseConfig& config = sparse.config;
  const std::string& kind = op.kind;
  if (kind == "block_query_means") {
    const double heads = static_cast<double>(in[0].size(1));
    at::Tensor squares = (in[0] * in[0]).mean(1, true);
    if (in.size() == 2) squares = at::cat({at::zeros_like(in[1]), squares}, 2);
    return mean_bound(heads, out, squares, u);
  }
  if (kind == "block_means") {
    const bool keys = op.point.ends_with(":key_blocks");
    const at::Tensor tokens = keys ? in[0].slice(2, c.config->prefix_tokens) : in[0];
    const at::Tensor squares =
        pool_mean((tokens * tokens).mean(1), by_rows(c, real_tokens(c)), config.block, 0).mean;
    const double n = static_cast<double>(config.block * tokens.size(1));
    // A decode step's own block is the mean of fewer; its newest queries are among these.
    const BlockSteps steps = block_steps(c, config);
    const at::Tensor more =
        keys || !steps.decode ? squares : squares * static_cast<double>(config.block);
    return mean_bound(n, out, more, u);
  }
  if (kind == "block_pools") {
    const std::int64_t pools = sparse.pools(), dim = c.config->head_dim;
    const bool keys = op.point.ends_with(":key_pools");
    const at::Tensor tokens = keys ? in[0].slice(2, c.config->prefix_tokens) : in[0];
    const at::Tensor real = by_rows(c, real_tokens(c)).slice(1, keys ? 0 : c.past);
    const at::Tensor squares =
        pooled_channels("avg", tokens * tokens, real, config.block, keys ? 0 : c.past);
    const at::Tensor all = squares.repeat({1, 1, 1, pools}).slice(-1, 0, pools * dim);
    return mean_bound(static_cast<double>(config.block), out, all, u);
  }
  if (kind == "block_scores") return walk_scores_bound(sparse, in, w, u);
  if (kind == "block_gate_scores") {
    const std::int64_t layer = std::stoll(op.point.substr(std::string("model.layers.").size()));
    return gate_scores_bound(sparse, layer, in, w, out, u);
  }
  if (kind == "block_transition") return transition_bound(config, in[0], out, u);
  if (kind == "block_walk") return walk_bound(in, out, u);
  if (kind == "block_mask") return near_ties(sparse, c, in, out, {});
  if (kind == "sparse_probs") return probs_bound(c, in, out, u);
  return at::zeros_like(out, at::kDouble);  // block_allowed
}

}  // namespace ps::reference
