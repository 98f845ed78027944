#include "diff/compare/chunk.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "core/float_bits.h"

namespace ps {

namespace {

void count(CellClass c, ClassCounts& counts) {
  counts.nan += c == CellClass::kNan ? 1 : 0;
  counts.pos_inf += c == CellClass::kPosInf ? 1 : 0;
  counts.neg_inf += c == CellClass::kNegInf ? 1 : 0;
  counts.lowest += c == CellClass::kLowest ? 1 : 0;
}

template <class From, class T>
void convert(const std::byte* from, std::int64_t n, T* out) {
  for (std::int64_t i = 0; i < n; ++i) {
    From x;
    std::memcpy(&x, from + i * static_cast<std::int64_t>(sizeof x), sizeof x);
    out[i] = static_cast<T>(x);
  }
}

template <class T>
void convert_bytes(const TensorView& view, const std::byte* from, std::int64_t n, T* out) {
  for (std::int64_t i = 0; i < n; ++i) {
    const auto byte = static_cast<std::uint8_t>(from[i]);
    if (view.dtype == DType::kF8E4M3) {
      out[i] = static_cast<T>(f8e4m3_to_float(byte));
    } else if (view.dtype == DType::kF8E5M2) {
      out[i] = static_cast<T>(f8e5m2_to_float(byte));
    } else {
      out[i] = byte != 0 ? T{1} : T{0};
    }
  }
}

void add(const ClassCounts& from, ClassCounts& to) {
  to.nan += from.nan;
  to.pos_inf += from.pos_inf;
  to.neg_inf += from.neg_inf;
  to.lowest += from.lowest;
  to.subnormal += from.subnormal;
}

}  // namespace

bool fits_float(DType dtype) { return size_of(dtype) <= 2 || dtype == DType::kF32; }

void ChunkCounts::add(const ChunkCounts& later) {
  ignored += later.ignored;
  classed += later.classed;
  ps::add(later.a, a);
  ps::add(later.b, b);
  class_mismatches += later.class_mismatches;
  if (first_class_mismatch < 0) first_class_mismatch = later.first_class_mismatch;
  nan_on_both += later.nan_on_both;
  flushed += later.flushed;
  bit_equal = bit_equal && later.bit_equal;
}

template <class T>
ChunkReader<T>::ChunkReader(const TensorView& a, const TensorView& b, const TensorView* ignore,
                            const Kernels& kernels)
    : a_(a), b_(b), ignore_(ignore), kernels_(kernels), loops_([&]() -> const Loops<T>& {
        if constexpr (std::is_same_v<T, float>) {
          return kernels.f32;
        } else {
          return kernels.f64;
        }
      }()) {}

template <class T>
const T* ChunkReader<T>::widen(const TensorView& view, const std::byte* from, std::int64_t n,
                               T* buffer) {
  const bool short_float = view.dtype == DType::kBF16 || view.dtype == DType::kF16;
  if (short_float || (view.dtype == DType::kF32 && std::is_same_v<T, double>)) {
    alignas(64) std::byte padded[kChunk * 4];
    const std::int64_t whole = n / kChunkStep * kChunkStep;
    if (whole != n) {  // the loops take whole steps, which may not lie in the tensor
      std::memset(padded, 0, sizeof padded);
      std::memcpy(padded, from, static_cast<std::size_t>(n * size_of(view.dtype)));
      from = padded;
    }
    const std::int64_t steps = (n + kChunkStep - 1) / kChunkStep * kChunkStep;
    float* floats = narrow_;
    if constexpr (std::is_same_v<T, float>) floats = buffer;
    if (view.dtype == DType::kBF16) kernels_.widen_bf16(from, steps, floats);
    if (view.dtype == DType::kF16) kernels_.widen_f16(from, steps, floats);
    if (view.dtype == DType::kF32) {
      std::memcpy(narrow_, from, static_cast<std::size_t>(steps) * sizeof(float));
    }
    if constexpr (std::is_same_v<T, double>) kernels_.widen_f32(narrow_, steps, buffer);
    return buffer;
  }
  const bool same = (view.dtype == DType::kF32 && std::is_same_v<T, float>) ||
                    (view.dtype == DType::kF64 && std::is_same_v<T, double>);
  if (same && n % kChunkStep == 0 && reinterpret_cast<std::uintptr_t>(from) % sizeof(T) == 0) {
    return reinterpret_cast<const T*>(from);
  }
  switch (view.dtype) {
    case DType::kF64:
    case DType::kF32:
      std::memcpy(buffer, from, static_cast<std::size_t>(n) * sizeof(T));
      break;
    case DType::kI64:
      convert<std::int64_t>(from, n, buffer);
      break;
    case DType::kU64:
      convert<std::uint64_t>(from, n, buffer);
      break;
    case DType::kI32:
      convert<std::int32_t>(from, n, buffer);
      break;
    case DType::kU32:
      convert<std::uint32_t>(from, n, buffer);
      break;
    case DType::kI16:
      convert<std::int16_t>(from, n, buffer);
      break;
    case DType::kU16:
      convert<std::uint16_t>(from, n, buffer);
      break;
    case DType::kI8:
      convert<std::int8_t>(from, n, buffer);
      break;
    case DType::kU8:
      convert<std::uint8_t>(from, n, buffer);
      break;
    default:
      convert_bytes(view, from, n, buffer);
  }
  return buffer;
}

// Integers beyond 2^53 that become the same double, and are not the same, are put one step apart.
template <class T>
void ChunkReader<T>::keep_integers_apart(std::int64_t begin, std::int64_t n) {
  if constexpr (std::is_same_v<T, double>) {
    const auto exact = [](const TensorView& v, std::int64_t i) {
      __extension__ using Wide = __int128;
      std::int64_t x;
      std::memcpy(&x, v.bytes.data() + i * 8, sizeof x);
      return v.dtype == DType::kU64 ? Wide{static_cast<std::uint64_t>(x)} : Wide{x};
    };
    for (std::int64_t i = 0; i < n; ++i) {
      if (a_cells_[i] != b_cells_[i] || std::fabs(b_cells_[i]) < 0x1p53) continue;
      const auto x = exact(a_, begin + i), y = exact(b_, begin + i);
      if (x != y) a_cells_[i] = std::nextafter(b_cells_[i], x > y ? HUGE_VAL : -HUGE_VAL);
    }
  }
}

template <class T>
std::int64_t ChunkReader<T>::drop_ignored(std::int64_t begin, std::int64_t n) {
  const Shape& shape = b_.shape;
  const auto* marks = reinterpret_cast<const std::uint8_t*>(ignore_->bytes.data());
  const std::size_t ndim = shape.size();
  std::int64_t sum = 0;
  for (std::int64_t i = 0; i < n;) {  // runs along the last axis
    std::int64_t rest = begin + i, offset = 0, step = 1, last = 0;
    for (std::size_t axis = ndim; axis-- > 0;) {
      const std::int64_t at = rest % shape[axis];
      rest /= shape[axis];
      if (axis == ndim - 1) last = at;
      if (ignore_->shape[axis] != 1) offset += at * step;
      step *= ignore_->shape[axis];
    }
    const std::int64_t run = ndim == 0 ? 1 : std::min(shape[ndim - 1] - last, n - i);
    const std::int64_t stride = ndim == 0 || ignore_->shape[ndim - 1] == 1 ? 0 : 1;
    for (std::int64_t j = 0; j < run; ++j) {
      ignored_[i + j] = marks[offset + j * stride] != 0 ? 1 : 0;
      sum += ignored_[i + j];
    }
    i += run;
  }
  return sum;
}

template <class T>
void ChunkReader<T>::drop_classes(Chunk& chunk, std::int64_t begin, std::int64_t n,
                                  ChunkCounts& counts) {
  own(chunk, n);
  std::fill(a_cells_ + n, a_cells_ + chunk.padded, T{0});
  std::fill(b_cells_ + n, b_cells_ + chunk.padded, T{0});
  for (std::int64_t i = 0; i < n; ++i) {
    const auto x = static_cast<double>(a_cells_[i]), y = static_cast<double>(b_cells_[i]);
    const CellClass mine = class_of(x, a_.dtype);
    count(mine, counts.a);
    count(class_of(y, b_.dtype), counts.b);
    const CellPair pair = pair_of(x, a_.dtype, y, b_.dtype);
    if (pair == CellPair::kNumbers) continue;
    ++counts.classed;
    if (pair == CellPair::kMismatch) {
      ++counts.class_mismatches;
      if (counts.first_class_mismatch < 0) counts.first_class_mismatch = begin + i;
    } else if (mine == CellClass::kNan) {
      ++counts.nan_on_both;
    }
    a_cells_[i] = 0;
    b_cells_[i] = 0;
  }
}

template <class T>
void ChunkReader<T>::own(Chunk& chunk, std::int64_t n) {
  const auto bytes = static_cast<std::size_t>(n) * sizeof(T);
  if (chunk.a != a_cells_) std::memcpy(a_cells_, chunk.a, bytes);
  if (chunk.b != b_cells_) std::memcpy(b_cells_, chunk.b, bytes);
  chunk.a = a_cells_;
  chunk.b = b_cells_;
}

template <class T>
typename ChunkReader<T>::Chunk ChunkReader<T>::read(std::int64_t begin, std::int64_t n,
                                                    ChunkCounts& counts) {
  Chunk chunk;
  const std::int64_t size = size_of(a_.dtype);
  chunk.equal = a_.dtype == b_.dtype &&
                std::memcmp(cell_a(begin), cell_b(begin), static_cast<std::size_t>(n * size)) == 0;
  chunk.a = widen(a_, cell_a(begin), n, a_cells_);
  chunk.b = chunk.equal ? chunk.a : widen(b_, cell_b(begin), n, b_cells_);
  const bool integers = !is_floating(a_.dtype) && !is_floating(b_.dtype);
  if (!chunk.equal && size == 8 && size_of(b_.dtype) == 8 && integers) {
    keep_integers_apart(begin, n);
  }
  if (ignore_ != nullptr) {
    if (const std::int64_t ignored = drop_ignored(begin, n); ignored > 0) {
      counts.ignored += ignored;
      own(chunk, n);
      for (std::int64_t i = 0; i < n; ++i) {
        if (ignored_[i] != 0) a_cells_[i] = b_cells_[i] = 0;
      }
      chunk.equal = a_.dtype == b_.dtype &&
                    std::memcmp(a_cells_, b_cells_, static_cast<std::size_t>(n) * sizeof(T)) == 0;
    }
  }
  counts.bit_equal = counts.bit_equal && chunk.equal;
  chunk.padded = (n + kChunkStep - 1) / kChunkStep * kChunkStep;
  if (chunk.padded != n) {
    own(chunk, n);
    std::fill(a_cells_ + n, a_cells_ + chunk.padded, T{0});
    std::fill(b_cells_ + n, b_cells_ + chunk.padded, T{0});
  }
  return chunk;
}

template <class T>
typename ChunkReader<T>::Chunk ChunkReader<T>::read_numbers(std::int64_t begin, std::int64_t n,
                                                            ChunkCounts& counts) {
  Chunk chunk = read(begin, n, counts);
  if (loops_.special(chunk.a, chunk.padded, limits_a()) ||
      loops_.special(chunk.b, chunk.padded, limits_b())) {
    drop_classes(chunk, begin, n, counts);
  }
  return chunk;
}

template <class T>
void ChunkReader<T>::count_subnormals(const Chunk& chunk, std::int64_t n,
                                      ChunkCounts& counts) const {
  const double normal_a = limits_a().min_normal, normal_b = limits_b().min_normal;
  if (normal_a > 0) counts.a.subnormal += loops_.subnormals(chunk.a, chunk.padded, normal_a);
  if (normal_b == 0) return;
  const std::int64_t found = loops_.subnormals(chunk.b, chunk.padded, normal_b);
  counts.b.subnormal += found;
  for (std::int64_t i = 0; found > 0 && !chunk.equal && i < n; ++i) {
    const double b = std::fabs(static_cast<double>(chunk.b[i]));
    if (b > 0 && b < normal_b && chunk.a[i] == 0) ++counts.flushed;
  }
}

template <class T>
ClassLimits ChunkReader<T>::limits_a() const {
  return limits_of(a_.dtype);
}
template <class T>
ClassLimits ChunkReader<T>::limits_b() const {
  return limits_of(b_.dtype);
}

template class ChunkReader<float>;
template class ChunkReader<double>;

}  // namespace ps
