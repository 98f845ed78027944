#include "diff/compare/blocks.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <sys/mman.h>
#include <type_traits>
#include <unistd.h>

namespace ps {

namespace {

// Asks for a block's pages in one call instead of one fault after another.
void page_in(const TensorView& view, std::int64_t begin, std::int64_t n) {
#ifdef MADV_POPULATE_READ
  static const auto kPage = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto first =
      reinterpret_cast<std::uintptr_t>(view.bytes.data() + begin * size_of(view.dtype)) / kPage *
      kPage;
  const auto end =
      reinterpret_cast<std::uintptr_t>(view.bytes.data() + (begin + n) * size_of(view.dtype));
  // A kernel that cannot says so, and the pages come as they are touched.
  if (end > first) (void)madvise(reinterpret_cast<void*>(first), end - first, MADV_POPULATE_READ);
#else
  (void)view, (void)begin, (void)n;
#endif
}

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

// Calls visit(chunk, begin, n, bound) for every chunk of a block.
template <class T, class Visit>
void for_each_chunk(const BlockInputs& in, std::int64_t block, double floor, ChunkCounts& counts,
                    const Visit& visit) {
  const auto reader = std::make_unique<ChunkReader<T>>(in.a, in.b, in.options.ignore, in.kernels);
  alignas(64) double bounds[kChunk];
  const auto [block_begin, block_end] = span_of(in, block);
  for (std::int64_t begin = block_begin; begin < block_end; begin += kChunk) {
    const std::int64_t n = std::min(kChunk, block_end - begin);
    const typename ChunkReader<T>::Chunk chunk = reader->read(begin, n, counts);
    ChunkBound bound{in.atol, in.rtol, floor, nullptr};
    if (in.options.bound.kind == BoundSpec::Kind::kCells && !chunk.equal) {
      bound.cells = cell_bounds(in.options.bound.cells, begin, n, bounds);
    }
    visit(chunk, begin, n, bound);
  }
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

template <class T>
BlockResult gather_block(const BlockInputs& in, std::int64_t block, double floor) {
  const auto [block_begin, block_end] = span_of(in, block);
  if (in.options.page_in) {
    page_in(in.a, block_begin, block_end - block_begin);
    page_in(in.b, block_begin, block_end - block_begin);
  }
  BlockResult out;
  const std::int64_t size_a = size_of(in.a.dtype), size_b = size_of(in.b.dtype);
  Tally tally;
  tally.cell_bytes_a = size_a;
  tally.cell_bytes_b = size_b;
  double largest = 0;  // as the loops round it
  const Loops<T>& loops = [&]() -> const Loops<T>& {
    if constexpr (std::is_same_v<T, float>) {
      return in.kernels.f32;
    } else {
      return in.kernels.f64;
    }
  }();
  for_each_chunk<T>(
      in, block, floor, out.counts,
      [&](const auto& chunk, std::int64_t begin, std::int64_t n, const ChunkBound& bound) {
        if (chunk.equal) {
          loops.tally_equal(chunk.b, chunk.padded, tally);
          return;
        }
        ChunkFacts facts;
        loops.tally(chunk.a, chunk.b, chunk.padded, bound, out.cell_ratio, tally, facts);
        if (facts.max_abs == 0) return;
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
          loops.over(chunk.a, chunk.b, chunk.padded, bound, overs);
          note_worst<T>(chunk, bound, overs.worst_ratio, begin, n, out.cell_ratio, out.worst_at);
        }
        out.max_ulp = std::max(out.max_ulp,
                               max_ulp<T>(in.kernels, in.ulp_type, chunk.a, chunk.b, chunk.padded));
      });
  tally.empty_buckets();
  out.aa = sum_of(tally.aa);
  out.bb = sum_of(tally.bb);
  out.ab = sum_of(tally.ab);
  out.dd = sum_of(tally.dd);
  out.a = sum_of(tally.a);
  out.b = sum_of(tally.b);
  for (int k = 2; k < kHistogramBuckets; ++k) out.at_least[k] = tally.histogram[k];
  out.at_least[1] = tally.unequal;
  return out;
}

template <class T>
BlockOvers judge_block(const BlockInputs& in, std::int64_t block, double floor) {
  BlockOvers out;
  ChunkCounts counts;
  const auto visit = [&](const auto& chunk, std::int64_t begin, std::int64_t n,
                         const ChunkBound& bound) {
    if (chunk.equal) return;
    OverFacts facts;
    if constexpr (std::is_same_v<T, float>) {
      in.kernels.f32.over(chunk.a, chunk.b, chunk.padded, bound, facts);
    } else {
      in.kernels.f64.over(chunk.a, chunk.b, chunk.padded, bound, facts);
    }
    out.over += facts.over;
    for (std::int64_t i = 0; facts.over > 0 && out.first_over < 0 && i < n; ++i) {
      if (error_at<T>(chunk, i) > limit_at<T>(chunk, bound, i)) out.first_over = begin + i;
    }
    note_worst<T>(chunk, bound, facts.worst_ratio, begin, n, out.cell_ratio, out.worst_at);
  };
  for_each_chunk<T>(in, block, floor, counts, visit);
  return out;
}

template BlockResult gather_block<float>(const BlockInputs&, std::int64_t, double);
template BlockResult gather_block<double>(const BlockInputs&, std::int64_t, double);
template BlockOvers judge_block<float>(const BlockInputs&, std::int64_t, double);
template BlockOvers judge_block<double>(const BlockInputs&, std::int64_t, double);

}  // namespace ps
