// The error of attention whose middle was not captured, from the roundings on its way.
#include "reference/bounds.h"

namespace ps::reference {

namespace {

// Beyond it, what moves together is bounded by Cauchy and Schwarz instead of being followed.
constexpr double kMostWork = 4e8;

// The squared length of the pair that each cell is turned with.
at::Tensor pair_squares(const at::Tensor& x) {
  const std::int64_t half = x.size(-1) / 2;
  const at::Tensor squares = x * x;
  const at::Tensor both = squares.slice(-1, 0, half) + squares.slice(-1, half);
  return at::cat({both, both}, -1);
}

}  // namespace

// Of x' = x cos + y sin each product is rounded once and so is the sum, and a table's entry too:
// independent numbers in +-u times |x cos|, |y sin|, |x'|, |x cos|, |y sin|, whose squares add up
// to at most three times the pair's. A norm rounds twice more before.
RotationNoise rotation_noise(const at::Tensor& x, bool normed, const at::Tensor& angles,
                             const RoundingUnits& u) {
  RotationNoise out;
  const double unit = u.result + u.accumulate;
  out.variance = pair_squares(x) * ((normed ? 5.0 : 3.0) * unit * unit / 3.0);
  if (normed) {
    const double n = static_cast<double>(x.size(-1));
    out.relative = (0.5 * u.lambda * std::sqrt(n) * 0.41 + 6.0) * u.accumulate;
  }
  // 3 units of an angle's own (rope_table_bound) and 16 of its frequency's; 4 of sine and cosine.
  out.angle = angles * (19.0 * u.table) + 4.0 * u.table;
  return out;
}

// Every rounding on the way from q and k to the context is an independent number in +-a, of
// variance a^2/3 at most, and moves a cell linearly: d_j of a score moves it by p_j d_j (v_j -
// out), e_j of a probability by p_j e_j v_j. The sum of such numbers exceeds lambda standard
// deviations with the chance that lambda stands for. Squares of the moves (a softmax is not linear)
// are added as they are, and so is what float32 exponentials and angles err by.
at::Tensor attention_bound(const ModelConfig& config, const at::Tensor& q, const at::Tensor& k,
                           const at::Tensor& v, const at::Tensor& scores, const at::Tensor& probs,
                           const at::Tensor& out, const RoundingUnits& u, const RotationNoise& of_q,
                           const RotationNoise& of_k) {
  const std::int64_t rows = out.size(0), length = out.size(1), heads = scores.size(1);
  const std::int64_t head = v.size(3), columns = v.size(2);
  const bool noisy = of_q.variance.defined() || of_k.variance.defined();
  const double work =
      static_cast<double>(rows * heads * length * columns) * static_cast<double>(head * q.size(3));
  if (scores.size(0) != rows || k.size(0) != rows || (work > kMostWork && !noisy)) return {};
  const double scale = 1.0 / std::sqrt(static_cast<double>(config.head_dim));
  const std::int64_t group = heads / v.size(1);
  const at::Tensor keys = k.repeat_interleave(group, 1), values = v.repeat_interleave(group, 1);
  const at::Tensor p = at::nan_to_num(probs), s = at::nan_to_num(scores, 0.0, 0.0, 0.0);
  const at::Tensor context = out.reshape({rows, length, heads, head}).transpose(1, 2);
  // E[(v - out)^2] under any weights w_j: sum w v^2 - 2 out sum w v + out^2 sum w.
  const auto spread = [&](const at::Tensor& w) {
    const at::Tensor first = at::matmul(w, values);
    return (at::matmul(w, values * values) - 2.0 * context * first +
            context * context * w.sum(-1, true))
        .clamp_min(0);
  };
  const auto turned = [](const at::Tensor& x) { return x.transpose(-1, -2); };
  // Of a score: its sum in the accumulator, two roundings to the run's type, and one of each key
  // where half of the scale goes to the keys.
  const at::Tensor square_keys = turned(keys * keys);
  const at::Tensor squares = at::matmul(q * q, square_keys) * (scale * scale);
  const at::Tensor size = s.abs() + squares.clamp_min(0).sqrt();
  const double sum_unit = u.accumulate * std::sqrt(static_cast<double>(q.size(3)));
  const double stored_once = u.result * u.result / 3.0;
  at::Tensor variance = (size * sum_unit).square() + (2.0 * s.square() + squares) * stored_once;
  if (of_k.variance.defined()) {
    const at::Tensor noise = of_k.variance.repeat_interleave(group, 1);
    variance = variance + at::matmul(q * q, turned(noise)) * (scale * scale);
  }
  at::Tensor total = spread(p * p * variance);
  // Of a query, one rounding where it is scaled before the product, and its noise: each moves all
  // of its scores together.
  at::Tensor of_query = q.square() * stored_once;
  if (of_q.variance.defined()) of_query = of_query + of_q.variance;
  of_query = of_query * (scale * scale);
  at::Tensor moves;  // of each score, by its query
  if (work > kMostWork || of_q.variance.defined()) moves = at::matmul(of_query, square_keys);
  if (work > kMostWork) {
    total = total + (p * moves).sum(-1, true) * spread(p);
  } else {
    const at::Tensor moved = at::einsum("rhsc,rhci,rhcd->rhsid", {p, keys, values}) -
                             at::matmul(p, keys).unsqueeze(-1) * context.unsqueeze(-2);
    total = total + (of_query.unsqueeze(-1) * moved.square()).sum(-2);
  }
  total = total + at::matmul(p * p, values * values) * stored_once;
  const at::Tensor largest = s.abs().amax(-1, true);
  at::Tensor worst =
      (s.abs() + largest) * (2.0 * u.accumulate + of_q.relative + of_k.relative) +
      (8.0 + 0.41 * u.lambda * std::sqrt(static_cast<double>(columns))) * u.accumulate;
  for (const RotationNoise* noise : {&of_q, &of_k}) {
    if (!noise->angle.defined()) continue;
    const at::Tensor x = pair_squares(q).sqrt() * noise->angle;
    worst = worst + at::matmul(x, turned(pair_squares(keys).sqrt())) * scale;
  }
  const at::Tensor all = of_q.variance.defined() ? variance + moves : variance;
  const at::Tensor plain = p * (worst + u.lambda * u.lambda * all);
  const at::Tensor passed = at::matmul(plain, values.abs()) + context.abs() * plain.sum(-1, true);
  const at::Tensor bound = u.lambda * total.sqrt() + passed;
  return bound.transpose(1, 2).reshape_as(out);
}

}  // namespace ps::reference
