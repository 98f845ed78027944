#include "diff/compare/compare.h"

#include <algorithm>
#include <memory>
#include <type_traits>
#include <vector>

#include "core/parallel.h"
#include "core/result.h"
#include "diff/compare/blocks.h"

namespace ps {

namespace {

// rms of a few cells of b: where the guess is near, one pass is enough.
double guess_rms(const TensorView& b) {
  constexpr std::int64_t kPlaces = 128, kRun = 16;
  const std::int64_t count = b.count();
  const std::int64_t step = std::max(kRun, count / kPlaces);
  double sum = 0, n = 0;
  for (std::int64_t place = 0; place < count; place += step) {
    const std::int64_t run = std::min(kRun, count - place), size = size_of(b.dtype);
    const TensorView cells{
        b.dtype, {run}, {b.bytes.data() + place * size, static_cast<std::size_t>(run * size)}};
    for (std::int64_t i = 0; i < run; ++i) {
      const double x = value_at(cells, i);
      if (!std::isfinite(x) || std::fabs(x) > 0x1p500) continue;
      sum += x * x;
      ++n;
    }
  }
  return n > 0 ? std::sqrt(sum / n) : 0;
}

// Sums of squares of doubles may leave the range of double; here they cannot.
struct WideSums {
  long double aa = 0, bb = 0, ab = 0, dd = 0, a = 0, b = 0;
};

WideSums wide_sums(const BlockInputs& in) {
  WideSums sums;
  ChunkCounts counts;
  const auto reader =
      std::make_unique<ChunkReader<double>>(in.a, in.b, in.options.ignore, in.kernels);
  for (std::int64_t begin = 0; begin < in.b.count(); begin += kChunk) {
    const std::int64_t n = std::min(kChunk, in.b.count() - begin);
    const ChunkReader<double>::Chunk chunk = reader->read_numbers(begin, n, counts);
    for (std::int64_t i = 0; i < n; ++i) {
      const long double x = chunk.a[i], y = chunk.b[i];
      sums.aa += x * x;
      sums.bb += y * y;
      sums.ab += x * y;
      sums.dd += (x - y) * (x - y);
      sums.a += x;
      sums.b += y;
    }
  }
  return sums;
}

bool out_of_range(const WideSums& s, double max_abs) {
  constexpr long double kTiny = 1e-280L, kHuge = 1e300L;
  const auto odd = [](long double x) { return !(x < kHuge) || (x > 0 && x < kTiny); };
  return odd(s.aa) || odd(s.bb) || odd(s.dd) || (max_abs > 0 && (s.dd == 0 || s.aa + s.bb == 0));
}

// Of the whole tensors, where nothing more than the first pass is needed.
void derive(const WideSums& s, Comparison& out) {
  const auto n = static_cast<long double>(out.compared - out.class_cells);
  if (n == 0) return;
  out.rms_candidate = static_cast<double>(sqrtl(s.aa / n));
  out.rms_expected = static_cast<double>(sqrtl(s.bb / n));
  if (s.dd > 0) out.rel_l2 = s.bb > 0 ? static_cast<double>(sqrtl(s.dd / s.bb)) : HUGE_VAL;
}

void derive_relation(const WideSums& s, Comparison& out) {
  const auto n = static_cast<long double>(out.compared - out.class_cells);
  if (n == 0) return;
  if (s.aa > 0 && s.bb > 0) {
    const long double cosine = s.ab / (sqrtl(s.aa) * sqrtl(s.bb));
    out.cosine = static_cast<double>(std::clamp(cosine, -1.0L, 1.0L));
  } else {
    out.cosine = s.aa == s.bb ? 1 : 0;
  }
  // Where the spread is lost in the rounding of the sums, there is none to speak of.
  const long double spread_b = s.bb - s.b * s.b / n, spread_a = s.aa - s.a * s.a / n;
  if (!(spread_b > 1e-11L * s.bb)) return;
  const long double common = s.ab - s.a * s.b / n;
  const long double slope = common / spread_b;
  out.regression.defined = true;
  out.regression.slope = static_cast<double>(slope);
  out.regression.intercept = static_cast<double>((s.a - slope * s.b) / n);
  if (spread_a > 1e-11L * s.aa) {
    const long double r2 = common * common / (spread_a * spread_b);
    out.regression.r2 = static_cast<double>(std::clamp(r2, 0.0L, 1.0L));
  }
}

// One cell's ratio under the bound atol + rtol * max(|b|, floor).
double ratio_at(const BlockInputs& in, std::int64_t i, double floor) {
  const double x = value_at(in.a, i), y = value_at(in.b, i);
  const double error = std::fabs(x - y);
  return error > 0 ? error / (in.atol + in.rtol * std::max(std::fabs(y), floor)) : 0;
}

// Looks again at the blocks where cells may be over, and, where the floor of the bounds was only
// guessed, at those that may hold the worst cell of all.
template <class T>
void judge(const BlockInputs& in, const std::vector<BlockResult>& blocks, Comparison& out) {
  const bool relative = in.options.bound.kind == BoundSpec::Kind::kRelative;
  const double floor = relative ? out.rms_expected : 0;
  for (const BlockResult& b : blocks) {
    const double ratio =
        relative && b.worst_at >= 0 ? ratio_at(in, b.worst_at, floor) : b.cell_ratio;
    if (!(ratio > out.cell_ratio)) continue;
    out.cell_ratio = ratio;
    out.worst_at = b.worst_at;
  }
  std::vector<std::int64_t> again;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const BlockResult& b = blocks[i];
    double up = 1;  // a ratio grows by at most this when the true floor takes the guess's place
    if (floor < b.floor) up = floor > 0 ? b.floor / floor * (1 + 1e-12) : HUGE_VAL;
    const double seen = std::max(b.cell_ratio, b.passed_over);
    const double at_most = seen > 0 && b.at_least[1] > 0 ? seen * up : 0;
    if (at_most > 1 || at_most > out.cell_ratio) again.push_back(static_cast<std::int64_t>(i));
  }
  std::vector<BlockOvers> overs(again.size());
  parallel_for(static_cast<std::int64_t>(again.size()), in.options.threads, [&](std::int64_t i) {
    const auto at = static_cast<std::size_t>(i);
    overs[at] = judge_block<T>(in, again[at], floor);
  });
  for (const BlockOvers& o : overs) {
    out.over += o.over;
    if (out.first_over < 0) out.first_over = o.first_over;
    const bool earlier = o.cell_ratio == out.cell_ratio && o.worst_at < out.worst_at;
    if (o.worst_at < 0 || !(o.cell_ratio > out.cell_ratio || earlier)) continue;
    out.cell_ratio = o.cell_ratio;
    out.worst_at = o.worst_at;
  }
}

template <class T>
void run(const BlockInputs& in, Comparison& out) {
  const std::int64_t count = in.b.count();
  const bool relative = in.options.bound.kind == BoundSpec::Kind::kRelative;
  BlockHints hints(relative ? guess_rms(in.b) : 0);
  std::vector<BlockResult> blocks(static_cast<std::size_t>((count + kBlock - 1) / kBlock));
  parallel_for(static_cast<std::int64_t>(blocks.size()), in.options.threads, [&](std::int64_t i) {
    blocks[static_cast<std::size_t>(i)] = gather_block<T>(in, i, hints);
  });
  WideSums sums;
  ChunkCounts counts;
  std::int64_t at_least[kHistogramBuckets] = {};
  for (const BlockResult& b : blocks) {
    sums.aa += b.aa;
    sums.bb += b.bb;
    sums.dd += b.dd;
    counts.add(b.counts);
    out.max_ulp = std::max(out.max_ulp, b.max_ulp);
    for (int k = 1; k < kHistogramBuckets; ++k) at_least[k] += b.at_least[k];
    if (!(b.max_abs > out.max_abs)) continue;
    out.max_abs = b.max_abs;
    out.max_abs_at = b.max_abs_at;
  }
  out.bit_equal = counts.bit_equal;
  out.ignored = counts.ignored;
  out.compared = count - counts.ignored;
  out.class_cells = counts.classed;
  out.candidate = counts.a;
  out.expected = counts.b;
  out.class_mismatches = counts.class_mismatches;
  out.first_class_mismatch = counts.first_class_mismatch;
  out.nan_on_both = counts.nan_on_both;
  out.flushed = counts.flushed;
  out.histogram[0] = out.compared - out.class_cells - at_least[1];
  for (std::size_t k = 1; k < kHistogramBuckets; ++k) {
    out.histogram[k] = at_least[k] - (k + 1 < kHistogramBuckets ? at_least[k + 1] : 0);
  }
  bool wide = false;
  if constexpr (std::is_same_v<T, double>) {
    wide = out_of_range(sums, out.max_abs);
    if (wide) sums = wide_sums(in);
  }
  derive(sums, out);
  judge<T>(in, blocks, out);
  const double limit = in.options.bound.l2_limit;
  if (std::isfinite(limit) && out.rel_l2 > 0) out.l2_ratio = out.rel_l2 / limit;
  out.ratio = std::max(out.cell_ratio, out.l2_ratio);
  if ((!out.ok() || sums.dd > sums.bb) && !wide) {
    std::vector<BlockMoments> moments(blocks.size());
    parallel_for(static_cast<std::int64_t>(blocks.size()), in.options.threads, [&](std::int64_t i) {
      moments[static_cast<std::size_t>(i)] = moments_of_block<T>(in, i);
    });
    for (const BlockMoments& m : moments) {
      sums.ab += m.ab;
      sums.a += m.a;
      sums.b += m.b;
    }
  } else if (!wide) {
    sums.ab = (sums.aa + sums.bb - sums.dd) / 2;  // the two are near each other
  }
  derive_relation(sums, out);
  if (out.ok()) out.regression = {};
}

}  // namespace

DType coarser(DType a, DType b) {
  if (is_floating(a) != is_floating(b)) return is_floating(a) ? a : b;
  if (!is_floating(a)) return size_of(a) <= size_of(b) ? a : b;
  return unit_roundoff(a) >= unit_roundoff(b) ? a : b;
}

BoundSpec default_bound(DType a, DType b, std::int64_t layers) {
  const DType type = coarser(a, b);
  if (!is_floating(type)) return BoundSpec::exact();
  const double c = size_of(type) >= 4 ? 32 : 3;
  const double limit = c * unit_roundoff(type) * std::sqrt(static_cast<double>(layers) + 1);
  return BoundSpec::relative(limit, 8 * limit);
}

std::int64_t Comparison::first_wrong() const {
  if (ok()) return -1;
  const bool both = first_over >= 0 && first_class_mismatch >= 0;
  if (both) return std::min(first_over, first_class_mismatch);
  const std::int64_t first = std::max(first_over, first_class_mismatch);
  return first >= 0 ? first : worst_at;
}

double cell_ratio(const TensorView& candidate, const TensorView& expected, const BoundSpec& bound,
                  const Comparison& compared, std::int64_t i) {
  const double x = value_at(candidate, i), y = value_at(expected, i);
  const CellPair pair = pair_of(x, candidate.dtype, y, expected.dtype);
  if (pair != CellPair::kNumbers) return pair == CellPair::kAlike ? 0 : std::nan("");
  const double error = std::fabs(x - y);
  if (error == 0) return 0;
  switch (bound.kind) {
    case BoundSpec::Kind::kFormula:
      return error / (bound.atol + bound.rtol * std::fabs(y));
    case BoundSpec::Kind::kRelative:
      return error / (bound.cell_limit * std::max(std::fabs(y), compared.rms_expected));
    case BoundSpec::Kind::kCells:
      return error / std::max(0.0, value_at(bound.cells, i));
  }
  return 0;
}

Comparison compare(const TensorView& candidate, const TensorView& expected,
                   const CompareOptions& options) {
  Comparison out;
  if (candidate.shape != expected.shape) {
    out.same_shape = false;
    return out;
  }
  const BoundSpec& bound = options.bound;
  if (bound.kind == BoundSpec::Kind::kCells) {
    PS_CHECK(bound.cells.dtype == DType::kF64 && bound.cells.shape == expected.shape,
             "bounds of " + to_string(bound.cells.shape) + " for " + to_string(expected.shape));
  }
  if (options.ignore != nullptr) {
    const Shape& marks = options.ignore->shape;
    bool fits = size_of(options.ignore->dtype) == 1 && marks.size() == expected.shape.size();
    for (std::size_t i = 0; fits && i < marks.size(); ++i) {
      fits = marks[i] == 1 || marks[i] == expected.shape[i];
    }
    PS_CHECK(fits, "marks of " + to_string(marks) + " for " + to_string(expected.shape));
  }
  const bool relative = bound.kind == BoundSpec::Kind::kRelative;
  const BlockInputs in{candidate,
                       expected,
                       options,
                       best_kernels(),
                       coarser(candidate.dtype, expected.dtype),
                       relative ? 0 : bound.atol,
                       relative ? bound.cell_limit : bound.rtol};
  out.bit_equal = candidate.dtype == expected.dtype;
  if (fits_float(candidate.dtype) && fits_float(expected.dtype)) {
    run<float>(in, out);
  } else {
    run<double>(in, out);
  }
  if (!is_floating(in.ulp_type)) out.max_ulp = 0;  // whole numbers and bools have no last place
  return out;
}

}  // namespace ps
