// The loops of compare(): one chunk of cells, as floats or doubles, all of them numbers. Each is
// compiled for several instruction sets and gives the same bits in all of them.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "core/dtype.h"
#include "diff/compare/compare.h"

namespace ps {

inline constexpr std::int64_t kChunk = 1024;  // cells; chunks are padded with zeros to kChunkStep
inline constexpr std::int64_t kChunkStep = 64;

// The bound of a cell: cells[i], or atol + rtol * max(|b|, floor).
struct ChunkBound {
  double atol = 0, rtol = 0, floor = 0;
  const double* cells = nullptr;
};

// Where a type's classes begin, as numbers.
struct ClassLimits {
  double lowest = -HUGE_VAL;  // at or below this a value needs a second look
  double min_normal = 0;      // 0: subnormals are nothing special
};

// What grows from chunk to chunk of a block, lane by lane.
struct Tally {
  alignas(64) double aa[8] = {}, bb[8] = {}, dd[8] = {};
  alignas(64) std::uint8_t at_least[kHistogramBuckets][64] = {};  // errors of bucket k and above
  int chunks = 0;                                                 // since at_least was emptied
  std::int64_t histogram[kHistogramBuckets] = {};                 // [1]: bucket 1 and above, ...
  std::int64_t unequal = 0;
  void empty_buckets();
};

// What a chunk is judged by.
struct ChunkRules {
  ChunkBound bound;
  double best = 0;       // the worst ratio so far
  double ulp_scale = 0;  // an error of at most this times both cells is no new maximum of ulps
  ClassLimits a, b;
  bool numbers = false;                // classes were taken out: add everything
  const std::byte* ahead_a = nullptr;  // what to fetch for the next chunk; not read
  const std::byte* ahead_b = nullptr;
  std::int64_t cell_bytes_a = 0, cell_bytes_b = 0;
};

struct ChunkFacts {
  bool special = false;    // NaN, an infinity, or a value at or below the lowest; nothing was added
  bool subnormal = false;  // somewhere, on either side
  double max_abs = 0;      // of floats, rounded to float
  bool beats = false;      // some cell may have an error over `best` times its bound; none if not
  bool more_ulps = false;  // some cell may be further apart than before; none if not
};

struct OverFacts {
  std::int64_t over = 0;   // cells with an error over their bound
  double worst_ratio = 0;  // of one cell; infinite for an error where the bound is 0
};

// What a regression and a cosine need; only of tensors that are wrong.
struct Moments {
  alignas(64) double ab[8] = {}, a[8] = {}, b[8] = {};
};

// How a type that is no wider than f32 lies in f32.
struct UlpFormat {
  int mantissa_bits = 23;
  int min_exponent = -126;
};

template <class T>
struct Loops {
  void (*tally)(const T* a, const T* b, std::int64_t n, const ChunkRules& rules, Tally& tally,
                ChunkFacts& facts);
  // The same where a is b, bit for bit.
  void (*tally_equal)(const T* b, std::int64_t n, const ChunkRules& rules, Tally& tally,
                      ChunkFacts& facts);
  void (*over)(const T* a, const T* b, std::int64_t n, const ChunkBound& bound, OverFacts& facts);
  void (*moments)(const T* a, const T* b, std::int64_t n, Moments& moments);
  bool (*special)(const T* x, std::int64_t n, const ClassLimits& limits);
  std::int64_t (*subnormals)(const T* x, std::int64_t n, double min_normal);
};

struct Kernels {
  const char* name;
  Loops<float> f32;
  Loops<double> f64;
  std::int64_t (*ulp_f32)(const float* a, const float* b, std::int64_t n, const UlpFormat& format);
  std::int64_t (*ulp_f64)(const double* a, const double* b, std::int64_t n);
  void (*widen_bf16)(const void* from, std::int64_t n, float* out);
  void (*widen_f16)(const void* from, std::int64_t n, float* out);
  void (*widen_f32)(const float* from, std::int64_t n, double* out);
  void (*narrow_f64)(const double* from, std::int64_t n, float* out);  // to nearest even
};

// The widest that this machine runs.
const Kernels& best_kernels();
// All that this machine runs, the widest first; for tests.
int kernel_count();
const Kernels& kernels_at(int index);

}  // namespace ps
