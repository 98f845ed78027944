// compare() over blocks of cells: the first pass that gathers, and the second look at those few
// blocks whose bounds could only be known at the end. Sums are added in the order of the blocks.
#pragma once

#include <cstdint>
#include <vector>

#include "diff/compare/chunk.h"
#include "diff/compare/compare.h"
#include "diff/compare/kernel.h"

namespace ps {

inline constexpr std::int64_t kBlock = 256 * kChunk;  // cells

struct BlockResult {
  double aa = 0, bb = 0, ab = 0, dd = 0, a = 0, b = 0;
  double max_abs = 0;
  std::int64_t max_abs_at = -1;
  std::int64_t max_ulp = 0;
  std::int64_t at_least[kHistogramBuckets] = {};  // errors of bucket k and above; [0] is not used
  double cell_ratio = 0;
  std::int64_t worst_at = -1;
  ChunkCounts counts;
};

struct BlockOvers {
  std::int64_t over = 0, first_over = -1;
  double cell_ratio = 0;
  std::int64_t worst_at = -1;
};

struct BlockInputs {
  const TensorView& a;
  const TensorView& b;
  const CompareOptions& options;
  const Kernels& kernels;
  DType ulp_type;
  double atol, rtol;
};

// T: see fits_float. `floor` is what ChunkBound says.
template <class T>
BlockResult gather_block(const BlockInputs& inputs, std::int64_t block, double floor);
template <class T>
BlockOvers judge_block(const BlockInputs& inputs, std::int64_t block, double floor);

}  // namespace ps
