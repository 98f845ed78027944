#include "reference/bounds.h"

#include <limits>

#include "reference/sparse_bounds.h"
#include "reference/weights.h"

namespace ps::reference {

namespace {

double smallest_of(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return std::numeric_limits<double>::denorm_min();
    case DType::kF16:
      return 0x1p-24;
    case DType::kF8E4M3:
      return 0x1p-9;
    case DType::kF8E5M2:
      return 0x1p-16;
    default:
      return 0x1p-126;  // subnormals may be flushed to zero
  }
}

// A sum of n terms a_i b_i, each partial sum rounded once. Roundings are independent with standard
// deviation 0.41 u |partial sum|; partial sums stay near |out| + ||a∘b||, whatever the order,
// unless the order was chosen against us. Hence lambda u sqrt(n) (|out| + ||a∘b||), 0.75 covering
// both factors with room; no sum is exact to less than 4 u.
at::Tensor summed(double n, const at::Tensor& out, const at::Tensor& squares,
                  const RoundingUnits& u) {
  const double steps = std::max(4.0, 0.75 * u.lambda * std::sqrt(n));
  return (out.abs() + squares.clamp_min(0).sqrt()) * (steps * u.accumulate);
}

// Two values are stored on the way to the result, as where a bias is added to a rounded product.
at::Tensor stored(const at::Tensor& out, double times, const RoundingUnits& u) {
  // A hundredth more, since ratios of exactly one are common where a sum is rounded.
  return out.abs() * (1.01 * times * u.result) + u.floor;
}

at::Tensor linear_bound(const at::Tensor& x, const Tensors& w, const at::Tensor& out,
                        const RoundingUnits& u) {
  const double n = static_cast<double>(x.size(-1));
  at::Tensor squares = linear_squares(x, w[0]);
  at::Tensor middle = out;
  if (w.size() > 1) {
    squares = squares + w[1] * w[1];
    middle = out - w[1];  // the product, which may have been rounded before the bias came
  }
  return summed(n, out, squares, u) + stored(out, 1.0, u) + stored(middle, 1.0, u);
}

bool is_row_parallel(std::string_view point) {
  return point.ends_with("_attn.o_proj") || point.ends_with(".mlp.down_proj");
}

// A row-parallel sum: each rank rounds its part to the result's type (one of them with the bias),
// and the parts are added there in any order, each running sum rounded. None is larger than all
// parts.
at::Tensor reduced(const at::Tensor& x, const Tensors& w, const RoundingUnits& u) {
  const std::int64_t width = x.size(-1) / u.ranks;
  at::Tensor size;
  for (std::int64_t r = 0; r < u.ranks; ++r) {
    const at::Tensor part =
        linear_map(x.narrow(-1, r * width, width), w[0].narrow(1, r * width, width).contiguous());
    size = r == 0 ? part.abs() : size + part.abs();
  }
  if (w.size() > 1) size = size + w[1].abs();
  return size * (static_cast<double>(u.ranks) * u.result);
}

// Mean of squares (all positive: its sum errs little), reciprocal root, product, cast, times
// weight.
at::Tensor rms_norm_bound(const at::Tensor& x, const at::Tensor& out, const RoundingUnits& u) {
  const double n = static_cast<double>(x.size(-1));
  const double statistics = (0.5 * u.lambda * std::sqrt(n) * 0.41 + 6.0) * u.accumulate;
  return out.abs() * (statistics + 2.0 * u.result) + 2.0 * u.floor;
}

// exp of a difference of scores: relative error |s - max| u and a few u more; then a division.
at::Tensor softmax_bound(const at::Tensor& scores, const at::Tensor& out, const RoundingUnits& u) {
  const double n = static_cast<double>(scores.size(-1));
  const at::Tensor finite = at::nan_to_num(scores, 0.0, 0.0, 0.0).abs();
  const at::Tensor largest = finite.amax(-1, true);
  const double sum = 8.0 + 0.41 * u.lambda * std::sqrt(n);
  const at::Tensor relative = (finite + largest) * (2.0 * u.accumulate) + sum * u.accumulate;
  return out.abs() * (relative + u.result) + u.floor;
}

at::Tensor stacked(const at::Tensor& x, std::int64_t heads) {  // [.,H,S,E] -> [.,K,g*S,E]
  return x.reshape({x.size(0), heads, -1, x.size(3)});
}

// a·b products over heads, with a's heads grouped onto b's: sum of squared terms, [.,H,S,E].
at::Tensor grouped_squares(const at::Tensor& a, const at::Tensor& b, const at::Tensor& like) {
  return at::matmul(stacked(a * a, b.size(1)), b * b).reshape_as(like);
}

// Where replicas stand side by side (cross-KV), their rows are one sequence: [B,K,P*S,D].
at::Tensor side_by_side(const at::Tensor& x, std::int64_t batch) {
  if (x.size(0) == batch) return x;
  const std::int64_t p = x.size(0) / batch;
  return x.view({p, batch, x.size(1), x.size(2), x.size(3)})
      .permute({1, 2, 0, 3, 4})
      .reshape({batch, x.size(1), p * x.size(2), x.size(3)});
}

at::Tensor scores_bound(const ModelConfig& config, const at::Tensor& q, const at::Tensor& k,
                        const at::Tensor& out, const RoundingUnits& u) {
  const double scale = 1.0 / std::sqrt(static_cast<double>(config.head_dim));
  const std::int64_t rows = out.size(0);
  const at::Tensor queries = side_by_side(q, rows), keys = side_by_side(k, rows);
  const at::Tensor squares =
      grouped_squares(queries, keys.transpose(-1, -2), out) * (scale * scale);
  // Some engines scale q before the product: one rounding a term, of independent signs.
  const at::Tensor scaled_first = squares.clamp_min(0).sqrt() * (0.5 * u.lambda * u.result);
  return summed(static_cast<double>(config.head_dim), out, squares, u) + stored(out, 2.0, u) +
         scaled_first;
}

at::Tensor context_bound(const at::Tensor& probs, const at::Tensor& v, const at::Tensor& out,
                         const RoundingUnits& u) {
  const at::Tensor p = at::nan_to_num(probs);
  const at::Tensor values = side_by_side(at::nan_to_num(v), p.size(0));
  at::Tensor squares = at::matmul(stacked(p * p, values.size(1)), values * values)
                           .view({p.size(0), p.size(1), p.size(2), -1});  // [.,H,S,D]
  if (p.size(0) != out.size(0)) {                                         // cross-KV: [B,H,P*S,D]
    const std::int64_t replicas = out.size(0) / p.size(0);
    squares = squares.view({p.size(0), p.size(1), replicas, -1, squares.size(3)})
                  .permute({2, 0, 1, 3, 4})
                  .flatten(0, 1);
  }
  squares = squares.transpose(1, 2).reshape_as(out);
  const double n = static_cast<double>(probs.size(-1));
  return summed(n, out, squares, u) + stored(out, 1.0, u);
}

// x cos + rotated(x) sin: two products and a sum are stored.
at::Tensor rotation_bound(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin,
                          const at::Tensor& out, const RoundingUnits& u) {
  const std::int64_t half = x.size(-1) / 2;
  const at::Tensor other = at::cat({x.slice(-1, half), x.slice(-1, 0, half)}, -1);
  return ((x * cos).abs() + (other * sin).abs()) * (u.result + u.accumulate) + stored(out, 1.0, u);
}

at::Tensor rope_bound(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin,
                      const at::Tensor& out, const RoundingUnits& u) {
  const std::int64_t heads = out.size(1);
  const at::Tensor split = x.flatten(2).view({x.size(0), x.size(1), heads, -1}).transpose(1, 2);
  return rotation_bound(split, cos.unsqueeze(1), sin.unsqueeze(1), out, u);
}

// The angle is a product in float32, so its error grows with it; sine and cosine pass it on.
at::Tensor rope_table_bound(const StepContext& c, const at::Tensor& inv_freq, const at::Tensor& out,
                            const RoundingUnits& u) {
  const auto options = at::TensorOptions().dtype(at::kDouble);
  at::Tensor position;
  if (c.inputs->position_ids) {
    position = at::empty({c.batch(), c.length()}, options);
    std::copy(c.inputs->position_ids->begin(), c.inputs->position_ids->end(),
              position.mutable_data_ptr<double>());
    position = position.repeat({out.size(0) / std::max<std::int64_t>(1, c.batch()), 1});
  } else {
    position = at::arange(c.past, c.past + c.length(), options).unsqueeze(0);
  }
  const at::Tensor angle = position.abs().unsqueeze(-1) * at::cat({inv_freq, inv_freq}).abs();
  return (angle * (3.0 * u.table) + 4.0 * u.table).expand_as(out) + out.abs() * u.result;
}

// g of the gate, then times up: both are stored; near zero gelu cancels, hence the |g| term.
at::Tensor activation_bound(const at::Tensor& gate, const at::Tensor& up, const at::Tensor& out,
                            const RoundingUnits& u) {
  return (gate * up).abs() * (8.0 * u.accumulate) + out.abs() * (gate.abs() * u.accumulate) +
         stored(out, 2.0, u) + up.abs() * u.floor;
}

at::Tensor linear_of_silu_bound(const at::Tensor& x, const Tensors& w, const at::Tensor& out,
                                const RoundingUnits& u) {
  const at::Tensor s = at::silu(x);
  const at::Tensor each = s.abs() * u.result + x.abs() * (8.0 * u.accumulate);  // of one silu
  const at::Tensor passed_on = linear_squares(each, w[0]).clamp_min(0).sqrt();
  return linear_bound(s, w, out, u) + passed_on * u.lambda;
}

at::Tensor cross_probs_bound(const ModelConfig& config, const at::Tensor& q, const at::Tensor& k,
                             const at::Tensor& out, const RoundingUnits& u) {
  const double scale = 1.0 / std::sqrt(static_cast<double>(config.cross_head_dim()));
  const at::Tensor keys = k.repeat_interleave(config.group(), 2).transpose(-1, -2);
  const at::Tensor scores = at::matmul(q, keys) * scale;
  const at::Tensor squares = at::matmul(q * q, keys * keys) * (scale * scale);
  const at::Tensor score_error =
      summed(static_cast<double>(config.cross_head_dim()), scores, squares, u) +
      stored(scores, 2.0, u) + squares.clamp_min(0).sqrt() * (0.5 * u.lambda * u.result);
  // A softmax passes on at most twice the largest error of its row, times p.
  return out.abs() * (2.0 * score_error.amax(-1, true)) + softmax_bound(scores, out, u);
}

at::Tensor cross_context_bound(const ModelConfig& config, const at::Tensor& probs,
                               const at::Tensor& v, const at::Tensor& out, const RoundingUnits& u) {
  const std::int64_t p = config.replicas, batch = v.size(0) / p;
  const at::Tensor values = v.view({p, batch, v.size(1), config.kv_heads, -1})
                                .permute({1, 2, 3, 0, 4})
                                .repeat_interleave(config.group(), 2);  // [B,S,H,P,X]
  const at::Tensor squares =
      at::matmul(probs * probs, values * values).permute({3, 0, 1, 2, 4}).reshape_as(out);
  return summed(static_cast<double>(p), out, squares, u) + stored(out, 1.0, u);
}

// A sum over replicas in float32, and a weight that may have been cast to the model's type.
at::Tensor aggregated_bound(const at::Tensor& weights, const at::Tensor& y, const at::Tensor& out,
                            const RoundingUnits& u) {
  const std::int64_t p = weights.size(-1);
  const at::Tensor terms =
      y.view({p, y.size(0) / p, y.size(1), y.size(2)}) * weights.permute({2, 0, 1}).unsqueeze(-1);
  const at::Tensor squares = (terms * terms).sum(0);
  return summed(static_cast<double>(p), out, squares, u) + stored(out, 1.0, u) +
         terms.abs().sum(0) * u.result;
}

}  // namespace

RoundingUnits units_of(const Rounding& rounding) {
  RoundingUnits u;
  u.result = std::max(unit_roundoff(rounding.run), unit_roundoff(rounding.captured));
  u.stored = unit_roundoff(rounding.captured);
  u.accumulate = rounding.run == DType::kF64 ? 0x1p-53 : 0x1p-24;
  const bool coarser = unit_roundoff(rounding.captured) > unit_roundoff(rounding.run);
  u.capture = coarser ? unit_roundoff(rounding.captured) : 0.0;
  // The op's inputs were stored as coarsely, and it never saw those roundings.
  u.accumulate = std::max(u.accumulate, u.capture);
  u.table = 0x1p-24;
  u.floor = std::max(smallest_of(rounding.run), smallest_of(rounding.captured));
  u.lambda = rounding.lambda;
  return u;
}

at::Tensor bound_of(const Op& op, const StepContext& context, const Tensors& in, const Tensors& w,
                    const at::Tensor& out, const RoundingUnits& u) {
  const std::string& kind = op.kind;
  const ModelConfig& config = *context.config;
  if (kind.starts_with("block_") || kind == "sparse_probs") {
    return sparse_bound(op, context, in, w, out, u);
  }
  if (kind == "linear") {
    const at::Tensor bound = linear_bound(in[0], w, out, u);
    return u.ranks > 1 && is_row_parallel(op.point) ? bound + reduced(in[0], w, u) : bound;
  }
  if (kind == "linear_of_silu") return linear_of_silu_bound(in[0], w, out, u);
  if (kind == "rms_norm") return rms_norm_bound(in[0], out, u);
  if (kind == "residual") return stored(out, 1.0, u);
  if (kind == "act") return activation_bound(in[0], in[1], out, u);
  if (kind == "rope") return rope_bound(in[0], in[1], in[2], out, u);
  if (kind == "scores") return scores_bound(config, in[0], in[1], out, u);
  if (kind == "probs") return softmax_bound(in[0], out, u);
  if (kind == "context") return context_bound(in[0], in[1], out, u);
  if (kind == "rope_table") return rope_table_bound(context, in[0], out, u);
  if (kind == "rope_freq") return out.abs() * (16.0 * u.table + u.stored);
  if (kind == "replica_rope_table") {
    return at::full_like(out, 8.0 * u.table * static_cast<double>(config.replicas)) +
           out.abs() * u.result;
  }
  if (kind == "replica_rope" && in.size() == 3) {
    const std::int64_t p = config.replicas, batch = in[0].size(0) / p;
    const at::Tensor heads =
        in[0].view({p, batch, in[0].size(1), out.size(2), -1}).permute({1, 2, 3, 0, 4});
    return rotation_bound(heads, in[1].unsqueeze(1).unsqueeze(1), in[2].unsqueeze(1).unsqueeze(1),
                          out, u);
  }
  if (kind == "cross_probs") return cross_probs_bound(config, in[0], in[1], out, u);
  if (kind == "cross_context") return cross_context_bound(config, in[0], in[1], out, u);
  if (kind == "aggregate_weights") return softmax_bound(in[0], out, u) + 2.0 * u.accumulate;
  if (kind == "aggregated" && in.size() == 2) return aggregated_bound(in[0], in[1], out, u);
  // What is left moves values and computes nothing (embed, replicate, caches, masks); only storing
  // a value in a coarser type than the run's can change it.
  return out.to(at::kDouble).abs() * u.capture;
}

namespace {

// `typical`: the error that a cell of its place has, in the candidate's type.
at::Tensor times_typical(const at::Tensor& out, const at::Tensor& typical, const RoundingUnits& u) {
  const at::Tensor finite = at::nan_to_num(out, 0.0, 0.0, 0.0);
  const double size = std::sqrt((finite * finite).mean().item<double>());
  const bool sixteen_bit = u.result > 0x1p-20;
  const double factor = sixteen_bit ? 8.0 : 32.0;
  const double floor = factor * u.result * size * (sixteen_bit ? 0.25 : 1.0);
  const at::Tensor larger = size > 0 ? (finite.abs() / size).clamp_min(1.0) : at::ones_like(out);
  return larger * (factor * typical + floor);
}

at::Tensor squared_error(const at::Tensor& out, const at::Tensor& same_type) {
  return at::nan_to_num(same_type - out, 0.0, 0.0, 0.0).square();
}

}  // namespace

// Rows differ: a softmax between two near keys passes on far more than one that has chosen. So each
// row (the last axis) is allowed the error of its own, and half the tensor's, since the few cells
// of a row say little. Cells that are large among their like may err as much more.
at::Tensor chain_bound(const at::Tensor& out, const at::Tensor& same_type, const RoundingUnits& u) {
  const at::Tensor squares = squared_error(out, same_type);
  const at::Tensor row = squares.dim() > 0 ? squares.mean(-1, /*keepdim=*/true) : squares;
  return times_typical(out, (row + 0.25 * squares.mean()).sqrt(), u);
}

// A weight's gradient is a sum over tokens of g_o x_i, and errs by d(g_o) x_i + g_o d(x_i): by as
// much more where the channel x_i is large as where the output's g_o is, whatever the sum itself
// comes to. Its variance is nearly a product of one over rows and one over columns, which is what
// the candidate's type shows of it; a row's mean alone forgets the large channels.
at::Tensor gradient_bound(const at::Tensor& out, const at::Tensor& same_type,
                          const RoundingUnits& u) {
  if (out.dim() < 2) return chain_bound(out, same_type, u);
  const at::Tensor squares = squared_error(out, same_type).reshape({-1, out.size(-1)});
  const at::Tensor row = squares.mean(1, /*keepdim=*/true), column = squares.mean(0, true);
  const at::Tensor all = squares.mean();
  const at::Tensor both = row * column / all.clamp_min(1e-300);
  return times_typical(out, (row + both + 0.25 * all).sqrt().reshape_as(out), u);
}

}  // namespace ps::reference
