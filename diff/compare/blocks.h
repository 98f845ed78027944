// compare() over blocks of cells: the first pass that gathers, and the second look at those few
// blocks whose bounds could only be known at the end. Sums are added in the order of the blocks.
#pragma once

#include <cstdint>
#include <mutex>

#include "diff/compare/chunk.h"
#include "diff/compare/compare.h"
#include "diff/compare/kernel.h"

namespace ps {

inline constexpr std::int64_t kBlock = 256 * kChunk;  // cells

struct BlockResult {
  double aa = 0, bb = 0, dd = 0;
  double max_abs = 0;
  std::int64_t max_abs_at = -1;
  std::int64_t max_ulp = 0;
  std::int64_t at_least[kHistogramBuckets] = {};  // errors of bucket k and above; [0] is not used
  double floor = 0;                               // the rms that was guessed, for ratios
  double cell_ratio = 0;  // the worst cell's, if it is above the ratio that was passed over
  std::int64_t worst_at = -1;
  double passed_over = 0;
  ChunkCounts counts;
};

// What blocks tell each other while they run, in whatever order: no result depends on it, only how
// many cells must be looked at twice.
class BlockHints {
 public:
  explicit BlockHints(double floor) : floor_(floor) {}
  struct Values {
    double floor, ratio, max_abs;
    std::int64_t max_ulp;
  };
  // The floor, and what a block need not look for: it has been seen, and is not the largest.
  Values values();
  void add(const BlockResult& block, std::int64_t numbers);

 private:
  std::mutex mutex_;
  double floor_, squares_ = 0, numbers_ = 0;
  double ratio_ = 0, max_abs_ = 0;
  std::int64_t max_ulp_ = 0;
};

struct BlockOvers {
  std::int64_t over = 0, first_over = -1;
  double cell_ratio = 0;
  std::int64_t worst_at = -1;
};

struct BlockMoments {
  double ab = 0, a = 0, b = 0;
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
BlockResult gather_block(const BlockInputs& inputs, std::int64_t block, BlockHints& hints);
template <class T>
BlockOvers judge_block(const BlockInputs& inputs, std::int64_t block, double floor);
template <class T>
BlockMoments moments_of_block(const BlockInputs& inputs, std::int64_t block);

}  // namespace ps
