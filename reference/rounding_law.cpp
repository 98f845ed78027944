// y = x r w with one r = 1 / sqrt(mean(x^2) + eps) a row. Two orders are in use:
//   once:  y = RN(x r w), all in float32 up to the last rounding;
//   twice: y = RN(RN(x r) w), the published one (parscale.md section 4).
// Under either, each y leaves an interval of scales e for which r (1 + e) gives it, and a row is
// explained when its cells' intervals have a scale in common. A row of another law is not: its
// cells are off by up to half a last place each in its own way, and a common scale is within
// 1 / cells of that. So "every row has a scale" finds the law, whatever the scales are; then each
// scale must be one that float32 statistics can give, |e| <= limit.
//
// A law is broken when at least `needed` different rows have no such scale, all to the same side.
// Given the law, that has the chance of one false cell of the run, 2 exp(-lambda^2 / 2): the limit
// is the one that so many of so many rows exceed with that chance. What is not listed must not look
// like a broken law either. Values that differ from ours a little in each cell have rows without a
// common scale, or errors of both signs; a row scale that is coarser than float32, or taken from
// values that were stored less coarsely, is tried before anything is said.
#include "reference/rounding_law.h"

#include <cmath>
#include <cstdio>
#include <tuple>
#include <vector>

#include "reference/bridge.h"

namespace ps::reference {

namespace {

constexpr double kUnit = 0x1p-24;
constexpr double kCellSlack = 4.0 * kUnit;  // products, and a division of two last places
constexpr std::int64_t kLeastWidth = 32;    // rows this short have a common scale by chance

struct Case {
  at::Tensor x, w, y;   // float64; [row, n], [n], [row, n]
  at::Tensor unstored;  // the sum that x was rounded from; undefined where it is not known
  at::Tensor told;      // bool [row]: rows that may speak against a law
  double eps = 0;
  at::ScalarType type = at::kBFloat16;
  std::int64_t needed = 4;  // rows
};

at::Tensor rounded(const at::Tensor& v, at::ScalarType type) { return v.to(type).to(at::kDouble); }

// The number of 16 bits `steps` after v >= 0, which is one itself.
at::Tensor stepped(const at::Tensor& v, std::int64_t steps, at::ScalarType type) {
  const at::Tensor bits = v.to(type).view(at::kShort).to(at::kLong);
  return (bits + steps).clamp(0, 0x7fff).to(at::kShort).view(type).to(at::kDouble);
}
at::Tensor tie_below(const at::Tensor& v, at::ScalarType t) { return (v + stepped(v, -1, t)) / 2; }
at::Tensor tie_above(const at::Tensor& v, at::ScalarType t) { return (v + stepped(v, 1, t)) / 2; }

at::Tensor scale_of(const at::Tensor& x, double eps) {
  return at::rsqrt(x.pow(2).mean(-1, /*keepdim=*/true) + eps);  // [row, 1]
}

enum class Law : std::uint8_t { kOnce, kTwice };

// The scales, less one, that each row's cells have in common; none where low > high.
struct Scales {
  Law law = Law::kOnce;
  at::Tensor low, high;  // [row]
  at::Tensor cells;      // [row], those that say anything
  bool explained() const { return !at::any(low > high).item<bool>(); }
};

// Cells of which a law says nothing: zeros, what may be flushed to zero, what may overflow.
at::Tensor usable_cells(const at::Tensor& xr, const at::Tensor& w, at::ScalarType type) {
  const double least = type == at::kHalf ? 0x1p-13 : 0x1p-124;
  const double most = type == at::kHalf ? 0x1p14 : 0x1p124;
  const at::Tensor z = (xr * w).abs(), first = xr.abs();
  return (z > least).logical_and(z < most).logical_and(first > least).logical_and(first < most);
}

Scales scales(Law law, const Case& c, const at::Tensor& x, const at::Tensor& r) {
  const at::Tensor xr = x * r, usable = usable_cells(xr, c.w, c.type);
  const at::Tensor y = c.y.abs(), w = c.w.abs();
  at::Tensor least = y, most = y, exact = (xr * c.w).abs();
  if (law == Law::kTwice) {
    // The 16-bit numbers m with RN(m w) = y: neighbours of y / w, within two steps.
    const at::Tensor near = rounded(y / w, c.type);
    least = at::full_like(y, HUGE_VAL);
    most = at::full_like(y, -HUGE_VAL);
    for (const std::int64_t k : {-2, -1, 0, 1, 2}) {
      const at::Tensor m = stepped(near, k, c.type);
      const at::Tensor gives = rounded(m * w, c.type) == y;
      least = at::where(gives, at::minimum(least, m), least);
      most = at::where(gives, at::maximum(most, m), most);
    }
    exact = xr.abs();
  }
  const at::Tensor possible = (xr * c.w * c.y > 0).logical_and(least <= most);
  const at::Tensor low = tie_below(least.clamp(0, 0x1p126), c.type) / exact * (1 - kCellSlack) - 1;
  const at::Tensor high = tie_above(most.clamp(0, 0x1p126), c.type) / exact * (1 + kCellSlack) - 1;
  Scales out;
  out.law = law;
  out.low = at::where(usable, at::where(possible, low, HUGE_VAL), -HUGE_VAL).amax(-1);
  out.high = at::where(usable, at::where(possible, high, -HUGE_VAL), HUGE_VAL).amin(-1);
  out.cells = usable.sum(-1);
  return out;
}

// Rows whose scale is above, below what is allowed around `centre`.
struct Outside {
  at::Tensor above, below;  // bool [row]
  std::int64_t rows() const { return at::logical_or(above, below).sum().item<std::int64_t>(); }
};
Outside outside(const Case& c, const Scales& s, const at::Tensor& centre, double limit) {
  const at::Tensor told = (s.cells >= kLeastWidth / 2).logical_and(c.told);
  return {(s.low > centre + limit).logical_and(told), (s.high < centre - limit).logical_and(told)};
}

// Equal rows (repeated tokens, replicas before their prefix) err alike and count once.
std::int64_t different(const Scales& s, const at::Tensor& rows) {
  const at::Tensor ends = at::stack({s.low.masked_select(rows), s.high.masked_select(rows)}, 1);
  return ends.size(0) == 0 ? 0 : std::get<0>(at::unique_dim(ends, 0)).size(0);
}

// Chance 2 exp(-l^2/2) a row, and `needed` of `rows`: (e rows / needed)^needed ways at most. The
// statistics err by 0.41 u sqrt(n) a standard deviation, halved by the root, and by 6 u besides.
double limit_of(const Case& c, double lambda) {
  const auto needed = static_cast<double>(c.needed);
  const double ways = std::max(1.0, 2.7183 * static_cast<double>(c.x.size(0)) / needed);
  const double log_chance = std::log(2.0) - lambda * lambda / 2;  // of the run's one cell
  const double l = std::sqrt(2.0 * (std::log(2.0 * ways) - log_chance / needed));
  const double n = static_cast<double>(c.x.size(1));
  return (0.5 * std::max(4.0, l) * 0.41 * std::sqrt(n) + 6.0) * kUnit;
}

// Row scales that legitimate code may have instead, as centres: what is rounded to 16 bits on the
// way, and statistics of the sum before it was stored.
std::vector<at::Tensor> other_scales(const Case& c, const at::Tensor& r) {
  std::vector<at::Tensor> out;
  std::vector<at::Tensor> inputs = {c.x};
  if (c.unstored.defined()) inputs.push_back(c.unstored);
  for (const at::Tensor& x : inputs) {
    const at::Tensor mean = x.pow(2).mean(-1, true), scale = at::rsqrt(mean + c.eps);
    for (const at::Tensor& other :
         {scale, rounded(scale, c.type), 1.0 / rounded(1.0 / scale, c.type),
          at::rsqrt(rounded(mean, c.type) + c.eps), at::rsqrt(rounded(mean + c.eps, c.type))}) {
      out.push_back((other / r - 1).squeeze(-1));
    }
  }
  return out;
}

// The values between which the law leaves the candidate's, and half a last place around them.
void law_bounds(const Case& c, const Scales& s, const at::Tensor& r, double limit,
                at::Tensor& value, at::Tensor& bound) {
  const at::Tensor xr = (c.x * r).abs(), w = c.w.abs();
  const auto with_scale = [&](double scale) {
    return s.law == Law::kOnce ? rounded(xr * w * scale, c.type)
                               : rounded(rounded(xr * scale, c.type) * w, c.type);
  };
  const double wide = limit + kCellSlack;
  const at::Tensor low = with_scale(1 - wide), high = with_scale(1 + wide);
  const at::Tensor middle = (low + high) / 2;
  const at::Tensor half = (stepped(high, 1, c.type) - stepped(high, -1, c.type)) / 4;
  const at::Tensor usable = usable_cells(c.x * r, c.w, c.type);
  const at::Tensor sign = at::sign(c.x * c.w);
  value = at::where(usable, middle * sign, value);
  bound = at::where(usable, (high - low) / 2 + 1.001 * half, bound);
}

std::string words_of(const Scales& s, const Outside& o, std::int64_t rows) {
  const bool above = at::any(o.above).item<bool>();
  const at::Tensor nearest = above ? s.low.masked_select(o.above) : s.high.masked_select(o.below);
  char text[240];
  std::snprintf(text, sizeof text,
                "to the last bit, all values are %s with one scale a row; of %lld rows, %lld have "
                "one that float32 statistics do not give (off by %+.2g or more)",
                s.law == Law::kOnce ? "one rounding of x r w" : "two roundings of x r and w",
                static_cast<long long>(rows), static_cast<long long>(o.rows()),
                (above ? nearest.max() : nearest.min()).item<double>());
  return text;
}

std::optional<Case> case_of(const Op& op, const Net& net, const PointLookup& lookup,
                            const Rounding& rounding, const Checkpoint& checkpoint) {
  const DType run = rounding.run;
  if (op.kind != "rms_norm" || (run != DType::kBF16 && run != DType::kF16)) return std::nullopt;
  const std::optional<TensorView> x = lookup(op.inputs[0]), y = lookup(op.point);
  const TensorView* stored = checkpoint.find(op.weights[0]);
  if (!x || !y || stored == nullptr || x->dtype != run || y->dtype != run) return std::nullopt;
  Case c;
  c.type = scalar_type(run);
  const at::Tensor weight = borrow(*stored).to(at::kDouble);
  // A candidate may keep weights finer than the run's type, and multiply by those.
  if (!at::equal(rounded(weight, c.type), weight)) return std::nullopt;
  const std::int64_t n = weight.numel();
  if (n < kLeastWidth || x->count() % n != 0 || x->count() != y->count()) return std::nullopt;
  c.w = weight;
  c.x = borrow(*x).to(at::kDouble).reshape({-1, n});
  c.y = borrow(*y).to(at::kDouble).reshape({-1, n});
  c.eps = net.config().rms_norm_eps;
  c.told = at::ones({c.x.size(0)}, at::kBool);
  // A fused kernel normalises the sum before it is stored. Where that sum cannot be tried, only so
  // many rows that err to one side tell a wrong scale from sums of tiny updates.
  const Op* source = net.find(op.inputs[0]);
  const bool moved = source != nullptr && (source->kind == "embed" || source->kind == "replicate");
  if (source != nullptr && source->kind == "residual") {
    const auto a = lookup(source->inputs[0]), b = lookup(source->inputs[1]);
    if (a && b && a->shape == x->shape && b->shape == x->shape) {
      c.unstored = (borrow(*a).to(at::kDouble) + borrow(*b).to(at::kDouble)).reshape({-1, n});
      // Where storing changed next to nothing, a stream that is kept in float32 all the way would
      // differ by as little; elsewhere by so much that no law would fit.
      c.told = (c.unstored != c.x).to(at::kDouble).mean(-1) > 0.125;
    }
  }
  c.needed = moved || c.unstored.defined() ? 4 : 32;
  return c;
}

}  // namespace

std::optional<BrokenLaw> broken_law(const Op& op, const Net& net, const PointLookup& lookup,
                                    const Rounding& rounding, const Checkpoint& checkpoint,
                                    const at::Tensor& exact, const at::Tensor& bound) {
  const std::optional<Case> found = case_of(op, net, lookup, rounding, checkpoint);
  if (!found) return std::nullopt;
  const Case& c = *found;
  const double limit = limit_of(c, rounding.lambda);
  const at::Tensor r = scale_of(c.x, c.eps);
  std::vector<Scales> laws;
  for (const Law law : {Law::kOnce, Law::kTwice}) {
    Scales s = scales(law, c, c.x, r);
    if (!s.explained()) continue;
    if (outside(c, s, at::zeros_like(s.low), limit).rows() < c.needed) return std::nullopt;
    laws.push_back(std::move(s));
  }
  if (laws.empty()) return std::nullopt;
  const Scales followed = laws[0];
  if (c.unstored.defined()) {
    for (const Law law : {Law::kOnce, Law::kTwice}) {
      if (Scales s = scales(law, c, c.unstored, r); s.explained()) laws.push_back(std::move(s));
    }
  }
  for (const at::Tensor& centre : other_scales(c, r)) {
    for (const Scales& s : laws) {
      if (outside(c, s, centre, limit).rows() < c.needed) return std::nullopt;
    }
  }
  const Outside o = outside(c, followed, at::zeros_like(followed.low), limit);
  const bool one_side = !at::any(o.above).item<bool>() || !at::any(o.below).item<bool>();
  if (!one_side || different(followed, at::logical_or(o.above, o.below)) < c.needed) {
    return std::nullopt;
  }
  BrokenLaw out;
  out.value = exact.reshape_as(c.x);
  out.bound = bound.reshape_as(c.x);
  law_bounds(c, followed, r, limit, out.value, out.bound);
  out.value = out.value.reshape_as(exact);
  out.bound = out.bound.reshape_as(exact);
  out.words = words_of(followed, o, c.x.size(0));
  return out;
}

}  // namespace ps::reference
