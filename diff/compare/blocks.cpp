#include "diff/compare/blocks.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <type_traits>

namespace ps {

namespace {

// Reads a byte of every page of these cells, so that their addresses are found at once and not one
// by one: the first use of a page waits for that longer than for its data, and nothing is fetched
// ahead from a page whose address is not known.
void touch_pages(const TensorView& view, std::int64_t begin, std::int64_t end) {
  constexpr std::size_t kPage = 4096;
  const auto size = static_cast<std::size_t>(size_of(view.dtype));
  const std::size_t last = std::min(static_cast<std::size_t>(end) * size, view.bytes.size());
  for (std::size_t at = static_cast<std::size_t>(begin) * size; at < last; at += kPage) {
    (void)*static_cast<const volatile std::byte*>(view.bytes.data() + at);
  }
}

constexpr std::int64_t kWindow = 16 * kChunk;  // cells whose pages are touched at once

template <class T>
std::int64_t max_ulp(const Kernels& kernels, DType type, const T* a, const T* b, std::int64_t n) {
  if constexpr (std::is_same_v<T, double>) {
    if (type == DType::kF64) return kernels.ulp_f64(a, b, n);
    if (is_floating(type)) {
      alignas(64) float x[kChunk];
      alignas(64) float y[kChunk];
      kernels.narrow_f64(a, n, x);
      kernels.narrow_f64(b, n, y);
      return max_ulp<float>(kernels, type, x, y, n);
    }
  } else {
    switch (type) {
      case DType::kF32:
        return kernels.ulp_f32(a, b, n, {23, -126});
      case DType::kBF16:
        return kernels.ulp_f32(a, b, n, {7, -126});
      case DType::kF16:
        return kernels.ulp_f32(a, b, n, {10, -14});
      case DType::kF8E4M3:
        return kernels.ulp_f32(a, b, n, {3, -6});
      case DType::kF8E5M2:
        return kernels.ulp_f32(a, b, n, {2, -14});
      default:
        break;
    }
  }
  double most = 0;  // integers: the distance itself
  for (std::int64_t i = 0; i < n; ++i) {
    most = std::max(most, std::fabs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
  }
  return most < 0x1p62 ? static_cast<std::int64_t>(most) : std::int64_t{1} << 62;
}

double sum_of(const double (&lanes)[8]) {
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) +
         ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

// Bounds of a chunk as the loops want them: never NaN, padded.
const double* cell_bounds(const TensorView& cells, std::int64_t begin, std::int64_t n,
                          double* buffer) {
  std::memcpy(buffer, cells.bytes.data() + begin * 8, static_cast<std::size_t>(n) * 8);
  for (std::int64_t i = 0; i < n; ++i) buffer[i] = buffer[i] > 0 ? buffer[i] : 0.0;
  std::fill(buffer + n, buffer + kChunk, 0.0);
  return buffer;
}

struct BlockSpan {
  std::int64_t begin, end;
};
BlockSpan span_of(const BlockInputs& inputs, std::int64_t block) {
  return {block * kBlock, std::min((block + 1) * kBlock, inputs.b.count())};
}

// The same arithmetic as loops.h, for one cell.
template <class T>
double error_at(const typename ChunkReader<T>::Chunk& chunk, std::int64_t i) {
  return std::fabs(static_cast<double>(chunk.a[i]) - static_cast<double>(chunk.b[i]));
}
template <class T>
double limit_at(const typename ChunkReader<T>::Chunk& chunk, const ChunkBound& bound,
                std::int64_t i) {
  if (bound.cells != nullptr) return bound.cells[i];
  const double size = std::fabs(static_cast<double>(chunk.b[i]));
  return bound.atol + bound.rtol * (size > bound.floor ? size : bound.floor);
}

ChunkBound bound_at(const BlockInputs& in, double floor, std::int64_t begin, std::int64_t n,
                    double* buffer) {
  ChunkBound bound{in.atol, in.rtol, floor, nullptr};
  if (in.options.bound.kind == BoundSpec::Kind::kCells) {
    bound.cells = cell_bounds(in.options.bound.cells, begin, n, buffer);
  }
  return bound;
}

template <class T>
const Loops<T>& loops_of(const Kernels& kernels) {
  if constexpr (std::is_same_v<T, float>) {
    return kernels.f32;
  } else {
    return kernels.f64;
  }
}

// e <= ulp_scale(m) * min(|a|, |b|): at most m ulps apart, whatever the rounding to the type. Both
// have one sign then, as the scale is below 1.
double ulp_scale(DType type, std::int64_t ulps) {
  const double scale = static_cast<double>(ulps - 1) * unit_roundoff(type);
  return std::clamp(scale, 0.0, 0.9);
}

template <class T>
void note_worst(const typename ChunkReader<T>::Chunk& chunk, const ChunkBound& bound, double worst,
                std::int64_t begin, std::int64_t n, double& ratio, std::int64_t& at) {
  if (!(worst > ratio)) return;
  for (std::int64_t i = 0; i < n; ++i) {
    const double error = error_at<T>(chunk, i);
    if (!(error > 0) || error / limit_at<T>(chunk, bound, i) != worst) continue;
    ratio = worst;
    at = begin + i;
    return;
  }
}

}  // namespace

BlockHints::Values BlockHints::values() {
  const std::lock_guard lock(mutex_);
  // A little less than the largest so far, so that each that might be the largest is found.
  constexpr double kLess = 0.98;
  return {numbers_ > 0 ? std::sqrt(squares_ / numbers_) : floor_, kLess * ratio_, kLess * max_abs_,
          max_ulp_};
}

void BlockHints::add(const BlockResult& block, std::int64_t numbers) {
  const std::lock_guard lock(mutex_);
  squares_ += block.bb;
  numbers_ += static_cast<double>(numbers);
  ratio_ = std::max(ratio_, block.cell_ratio);
  max_abs_ = std::max(max_abs_, block.max_abs);
  max_ulp_ = std::max(max_ulp_, block.max_ulp);
}

template <class T>
BlockResult gather_block(const BlockInputs& in, std::int64_t block, BlockHints& hints) {
  using Chunk = typename ChunkReader<T>::Chunk;
  BlockResult out;
  const BlockHints::Values known = hints.values();
  out.floor = known.floor;
  out.passed_over = std::isfinite(known.ratio) ? known.ratio : 0;
  out.max_ulp = known.max_ulp;
  const Loops<T>& loops = loops_of<T>(in.kernels);
  const auto reader = std::make_unique<ChunkReader<T>>(in.a, in.b, in.options.ignore, in.kernels);
  alignas(64) double bounds[kChunk];
  Tally tally;
  ChunkRules rules;
  rules.a = reader->limits_a();
  rules.b = reader->limits_b();
  rules.cell_bytes_a = size_of(in.a.dtype);
  rules.cell_bytes_b = size_of(in.b.dtype);
  double largest = std::isfinite(known.max_abs) ? known.max_abs : 0;  // as the loops round it
  const auto [block_begin, block_end] = span_of(in, block);
  for (std::int64_t begin = block_begin; begin < block_end; begin += kChunk) {
    const std::int64_t n = std::min(kChunk, block_end - begin);
    if ((begin - block_begin) % kWindow == 0) {
      touch_pages(in.a, begin + kWindow, std::min(begin + 2 * kWindow, block_end));
      touch_pages(in.b, begin + kWindow, std::min(begin + 2 * kWindow, block_end));
    }
    Chunk chunk = reader->read(begin, n, out.counts);
    ChunkFacts facts;
    if (chunk.equal) {
      loops.tally_equal(chunk.b, chunk.padded, rules, tally, facts);
    } else {
      rules.bound = bound_at(in, known.floor, begin, n, bounds);
      rules.best = std::max(out.cell_ratio, out.passed_over);
      rules.ahead_a = reader->cell_a(begin + kChunk);
      rules.ahead_b = reader->cell_b(begin + kChunk);
      rules.ulp_scale = ulp_scale(in.ulp_type, out.max_ulp);
      loops.tally(chunk.a, chunk.b, chunk.padded, rules, tally, facts);
    }
    if (facts.special) {
      reader->drop_classes(chunk, begin, n, out.counts);
      ChunkRules rest = rules;
      rest.numbers = true;
      loops.tally(chunk.a, chunk.b, chunk.padded, rest, tally, facts);
    }
    if (facts.subnormal) reader->count_subnormals(chunk, n, out.counts);
    if (facts.max_abs == 0) continue;
    if (facts.max_abs > largest) {
      largest = facts.max_abs;
      for (std::int64_t i = 0; i < n; ++i) {
        const double error = error_at<T>(chunk, i);
        if (!(error > out.max_abs)) continue;
        out.max_abs = error;
        out.max_abs_at = begin + i;
      }
    }
    if (facts.beats) {
      OverFacts overs;
      loops.over(chunk.a, chunk.b, chunk.padded, rules.bound, overs);
      note_worst<T>(chunk, rules.bound, overs.worst_ratio, begin, n, out.cell_ratio, out.worst_at);
    }
    if (facts.more_ulps) {
      out.max_ulp = std::max(out.max_ulp,
                             max_ulp<T>(in.kernels, in.ulp_type, chunk.a, chunk.b, chunk.padded));
    }
  }
  tally.empty_buckets();
  out.aa = sum_of(tally.aa);
  out.bb = sum_of(tally.bb);
  out.dd = sum_of(tally.dd);
  for (int k = 2; k < kHistogramBuckets; ++k) out.at_least[k] = tally.histogram[k];
  out.at_least[1] = tally.unequal;
  hints.add(out, block_end - block_begin - out.counts.ignored - out.counts.classed);
  return out;
}

template <class T>
BlockOvers judge_block(const BlockInputs& in, std::int64_t block, double floor) {
  BlockOvers out;
  ChunkCounts counts;
  const auto reader = std::make_unique<ChunkReader<T>>(in.a, in.b, in.options.ignore, in.kernels);
  alignas(64) double bounds[kChunk];
  const auto [block_begin, block_end] = span_of(in, block);
  for (std::int64_t begin = block_begin; begin < block_end; begin += kChunk) {
    const std::int64_t n = std::min(kChunk, block_end - begin);
    const typename ChunkReader<T>::Chunk chunk = reader->read_numbers(begin, n, counts);
    if (chunk.equal) continue;
    const ChunkBound bound = bound_at(in, floor, begin, n, bounds);
    OverFacts facts;
    loops_of<T>(in.kernels).over(chunk.a, chunk.b, chunk.padded, bound, facts);
    out.over += facts.over;
    for (std::int64_t i = 0; facts.over > 0 && out.first_over < 0 && i < n; ++i) {
      if (error_at<T>(chunk, i) > limit_at<T>(chunk, bound, i)) out.first_over = begin + i;
    }
    note_worst<T>(chunk, bound, facts.worst_ratio, begin, n, out.cell_ratio, out.worst_at);
  }
  return out;
}

template <class T>
BlockMoments moments_of_block(const BlockInputs& in, std::int64_t block) {
  ChunkCounts counts;
  const auto reader = std::make_unique<ChunkReader<T>>(in.a, in.b, in.options.ignore, in.kernels);
  Moments sums;
  const auto [block_begin, block_end] = span_of(in, block);
  for (std::int64_t begin = block_begin; begin < block_end; begin += kChunk) {
    const std::int64_t n = std::min(kChunk, block_end - begin);
    const typename ChunkReader<T>::Chunk chunk = reader->read_numbers(begin, n, counts);
    loops_of<T>(in.kernels).moments(chunk.a, chunk.b, chunk.padded, sums);
  }
  return {sum_of(sums.ab), sum_of(sums.a), sum_of(sums.b)};
}

template BlockMoments moments_of_block<float>(const BlockInputs&, std::int64_t);
template BlockMoments moments_of_block<double>(const BlockInputs&, std::int64_t);
template BlockResult gather_block<float>(const BlockInputs&, std::int64_t, BlockHints&);
template BlockResult gather_block<double>(const BlockInputs&, std::int64_t, BlockHints&);
template BlockOvers judge_block<float>(const BlockInputs&, std::int64_t, double);
template BlockOvers judge_block<double>(const BlockInputs&, std::int64_t, double);

}  // namespace ps
