#include "diff/shard/unexplained.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace ps {

namespace {

std::int64_t fill_pattern_count(const TensorView& view) {
  constexpr std::uint32_t kFill = 0x7FC0DEAD;  // tensor-parallel.md 2.3
  if (view.dtype != DType::kF32) return 0;
  const auto words = view.as<std::uint32_t>();
  return std::count(words.begin(), words.end(), kFill);
}

struct Moments {
  double count = 0, mean = 0, largest = 0, square = 0, fourth = 0;  // of the finite ones, about 0
  std::int64_t not_finite = 0;
};

Moments moments_of(const TensorView& view) {
  Moments m;
  for (std::int64_t i = 0; i < view.count(); ++i) {
    const double x = value_at(view, i);
    if (!std::isfinite(x)) {
      ++m.not_finite;
      continue;
    }
    m.count += 1;
    m.mean += x;
    m.square += x * x;
    m.fourth += x * x * x * x;
    m.largest = std::max(m.largest, std::fabs(x));
  }
  const double n = std::max(m.count, 1.0);
  m.mean /= n, m.square /= n, m.fourth /= n;
  return m;
}

// Uniform in [-edge, edge]: variance edge^2/3, kurtosis 9/5, each within four of its own standard
// deviations for so many draws, sqrt(0.8/n) and 1.147/sqrt(n) (from the moments edge^2k/(2k+1)). A
// normal distribution has kurtosis 3, and with the same largest value a third of the variance.
bool is_uniform(const Moments& m, double edge) {
  if (m.count < 64 || m.square == 0) return false;
  const double root = std::sqrt(m.count);
  return m.largest <= edge && m.largest > 0.95 * edge && std::fabs(m.mean) < 0.1 * edge &&
         std::fabs(m.square / (edge * edge / 3) - 1) <= 4 * std::sqrt(0.8) / root &&
         std::fabs(m.fourth / (m.square * m.square) - 1.8) <= 4 * 1.147 / root;
}

}  // namespace

Hypothesis unexplained(const ShardQuestion& q) {
  const Moments m = moments_of(q.actual);
  char text[200];
  const std::int64_t fan_in = q.actual.shape.size() == 2 ? q.actual.shape[1] : 0;
  const double kaiming = fan_in > 0 ? 1.0 / std::sqrt(static_cast<double>(fan_in)) : 0;
  const std::int64_t filled = fill_pattern_count(q.actual);
  if (filled > 0) {
    std::snprintf(
        text, sizeof text,
        "was never loaded: %lld of its %lld elements still hold 7fc0dead, the pattern that "
        "loaders fill memory with",
        static_cast<long long>(filled), static_cast<long long>(q.actual.count()));
  } else if (m.not_finite > 0) {
    std::snprintf(text, sizeof text,
                  "matches nothing in the checkpoint: %lld of its elements are "
                  "not finite (memory that was never written?)",
                  static_cast<long long>(m.not_finite));
  } else if (kaiming > 0 && is_uniform(m, kaiming)) {
    std::snprintf(text, sizeof text,
                  "was never loaded: uniform within 1/sqrt(%lld) = %.3g, as "
                  "torch initialises a Linear (largest %.3g, mean %.2g)",
                  static_cast<long long>(fan_in), kaiming, m.largest, m.mean);
  } else {
    std::snprintf(text, sizeof text, "matches nothing in the checkpoint (largest %.3g, mean %.2g)",
                  m.largest, m.mean);
  }
  return {"TP007", false, text};
}

}  // namespace ps
