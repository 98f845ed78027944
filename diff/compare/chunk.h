// Two tensors as chunks of numbers: converted to one type, ignored cells and cells of a class taken
// out (both sides 0), padded with zeros. What was taken out is counted.
#pragma once

#include <cstdint>

#include "diff/compare/classes.h"
#include "diff/compare/compare.h"
#include "diff/compare/kernel.h"

namespace ps {

struct ChunkCounts {
  std::int64_t ignored = 0;
  std::int64_t classed = 0;  // cells of a class on either side
  ClassCounts a, b;
  std::int64_t class_mismatches = 0, first_class_mismatch = -1;
  std::int64_t nan_on_both = 0, flushed = 0;
  bool bit_equal = true;
  void add(const ChunkCounts& later);
};

// T is float where both types lie in it exactly, else double.
bool fits_float(DType dtype);

template <class T>
class ChunkReader {
 public:
  ChunkReader(const TensorView& a, const TensorView& b, const TensorView* ignore,
              const Kernels& kernels);

  struct Chunk {
    const T* a = nullptr;
    const T* b = nullptr;
    std::int64_t padded = 0;
    bool equal = false;  // not one bit differs
  };
  const std::byte* cell_a(std::int64_t i) const { return a_.bytes.data() + i * size_of(a_.dtype); }
  const std::byte* cell_b(std::int64_t i) const { return b_.bytes.data() + i * size_of(b_.dtype); }
  // Cells [begin, begin + n), n <= kChunk, with ignored ones taken out. Valid until the next
  // read().
  Chunk read(std::int64_t begin, std::int64_t n, ChunkCounts& counts);
  // Takes out the cells of a class and counts them.
  void drop_classes(Chunk& chunk, std::int64_t begin, std::int64_t n, ChunkCounts& counts);
  void count_subnormals(const Chunk& chunk, std::int64_t n, ChunkCounts& counts) const;
  // read(), and drop_classes() where there are any.
  Chunk read_numbers(std::int64_t begin, std::int64_t n, ChunkCounts& counts);
  ClassLimits limits_a() const;
  ClassLimits limits_b() const;

 private:
  const T* widen(const TensorView& view, const std::byte* from, std::int64_t n, T* buffer);
  void keep_integers_apart(std::int64_t begin, std::int64_t n);
  std::int64_t drop_ignored(std::int64_t begin, std::int64_t n);
  void own(Chunk& chunk, std::int64_t n);  // the cells into our buffers, to be changed

  const TensorView& a_;
  const TensorView& b_;
  const TensorView* ignore_;
  const Kernels& kernels_;
  const Loops<T>& loops_;
  alignas(64) T a_cells_[kChunk];
  alignas(64) T b_cells_[kChunk];
  alignas(64) float narrow_[kChunk];
  std::uint8_t ignored_[kChunk];
};

}  // namespace ps
