#include "diff/golden/digest.h"

#include <cmath>
#include <cstdio>
#include <span>

#include "diff/compare/compare.h"

namespace ps {

namespace {

constexpr std::int64_t kSamples = 16;
// Squares and sums of larger numbers (the lowest float64 of a mask) are infinite: so are they here.
constexpr double kHuge = 1e150;

std::uint64_t mixed(std::uint64_t x) {  // splitmix64's finisher: one sign a bit
  x += 0x9e3779b97f4a7c15U;
  x = (x ^ (x >> 30U)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27U)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31U);
}

bool is_ignored(const TensorView* marks, const Shape& shape, std::int64_t cell) {
  if (marks == nullptr) return false;
  std::int64_t at = 0, stride = 1, rest = cell;
  for (std::size_t axis = shape.size(); axis-- > 0;) {
    const std::int64_t index = rest % shape[axis];
    rest /= shape[axis];
    at += marks->shape[axis] == 1 ? 0 : index * stride;
    stride *= marks->shape[axis];
  }
  return marks->as<std::uint8_t>()[static_cast<std::size_t>(at)] != 0;
}

std::string at_cell(std::int64_t cell, const Shape& shape) {
  Shape index(shape.size());
  for (std::size_t axis = shape.size(); axis-- > 0; cell /= shape[axis]) {
    index[axis] = cell % shape[axis];
  }
  return to_string(index);
}

}  // namespace

std::uint64_t fnv1a(std::span<const std::byte> bytes) {
  std::uint64_t hash = 0xcbf29ce484222325U;
  for (const std::byte b : bytes)
    hash = (hash ^ std::to_integer<std::uint64_t>(b)) * 0x100000001b3U;
  return hash;
}

Digest digest_of(const TensorView& value, const TensorView* ignore) {
  Digest out;
  out.dtype = value.dtype;
  out.shape = value.shape;
  out.hash = fnv1a(value.bytes);
  const std::int64_t count = value.count();
  double squares = 0;
  std::int64_t finite = 0;
  const std::int64_t stride = std::max<std::int64_t>(1, count / kSamples);
  for (std::int64_t i = 0; i < count; ++i) {
    if (is_ignored(ignore, value.shape, i)) {
      ++out.ignored;
      continue;
    }
    const double x = value_at(value, i);
    if (std::isnan(x)) {
      ++out.nan;
    } else if (std::fabs(x) > kHuge) {
      ++(x > 0 ? out.pos_inf : out.neg_inf);
    } else {
      ++finite;
      squares += x * x;
      std::uint64_t signs = mixed(static_cast<std::uint64_t>(i));
      for (double& sum : out.sketch) {
        sum += (signs & 1U) != 0 ? x : -x;
        signs >>= 1U;
      }
      // One cell of each sixteenth, somewhere in it.
      const std::int64_t within = static_cast<std::int64_t>(
          mixed(static_cast<std::uint64_t>(i / stride)) % static_cast<std::uint64_t>(stride));
      if (i % stride == within && i / stride < kSamples) out.samples.emplace_back(i, x);
    }
  }
  out.rms = finite > 0 ? std::sqrt(squares / static_cast<double>(finite)) : 0;
  return out;
}

DigestMatch match_digests(const Digest& candidate, const Digest& expected, DType a, DType b,
                          std::int64_t layers) {
  DigestMatch out;
  const auto wrong = [&](const std::string& what) {
    out.ok = false;
    out.what = what;
    return out;
  };
  char text[160];
  if (candidate.shape != expected.shape) {
    return wrong("has shape " + to_string(candidate.shape) + ", expected " +
                 to_string(expected.shape));
  }
  out.same_bits = candidate.dtype == expected.dtype && candidate.hash == expected.hash;
  if (out.same_bits) return out;
  if (candidate.nan != expected.nan || candidate.pos_inf != expected.pos_inf ||
      candidate.neg_inf != expected.neg_inf) {
    std::snprintf(text, sizeof text, "has %lld NaN and %lld infinite cells, expected %lld and %lld",
                  static_cast<long long>(candidate.nan),
                  static_cast<long long>(candidate.pos_inf + candidate.neg_inf),
                  static_cast<long long>(expected.nan),
                  static_cast<long long>(expected.pos_inf + expected.neg_inf));
    return wrong(text);
  }
  if (!is_floating(candidate.dtype) && !is_floating(expected.dtype)) {
    if (candidate.sketch == expected.sketch) return out;  // other integer types, the same numbers
    return wrong("holds other numbers, and must be equal");
  }
  const BoundSpec bound = default_bound(a, b, layers);
  double squares = 0;
  for (std::size_t i = 0; i < expected.sketch.size(); ++i) {
    const double d = candidate.sketch[i] - expected.sketch[i];
    squares += d * d;
  }
  const double error = std::sqrt(squares / static_cast<double>(expected.sketch.size()));
  const double size = expected.rms * std::sqrt(static_cast<double>(count_of(expected.shape)));
  out.rel_l2 = size > 0 ? error / size : (error > 0 ? HUGE_VAL : 0);
  for (std::size_t i = 0; i < std::min(candidate.samples.size(), expected.samples.size()); ++i) {
    const auto& [cell, value] = expected.samples[i];
    const double mine = candidate.samples[i].second;
    const double allowed = bound.cell_limit * std::max(std::abs(value), expected.rms);
    if (candidate.samples[i].first == cell && std::abs(mine - value) <= allowed) continue;
    std::snprintf(text, sizeof text, " is %.9g, expected %.9g within %.2g", mine, value, allowed);
    return wrong("at " + at_cell(cell, expected.shape) + text);
  }
  if (!(out.rel_l2 <= std::sqrt(3.0) * bound.l2_limit)) {
    std::snprintf(text, sizeof text, "is off by about %.3g of its size, allowed %.3g", out.rel_l2,
                  std::sqrt(3.0) * bound.l2_limit);
    return wrong(text);
  }
  return out;
}

}  // namespace ps
