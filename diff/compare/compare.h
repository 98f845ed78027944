// Two tensors of equal shape and any two types, compared in one pass at memory speed. Classes come
// before distances: a NaN, an infinity or a type's lowest value is met by its like, or it is a
// mismatch and never a number. Sums are doubles over fixed blocks: the same on every machine and
// for every number of threads.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <string>

#include "core/tensor.h"

namespace ps {

// How far a cell may be off. A cell with bound 0 must be equal.
struct BoundSpec {
  enum class Kind : std::uint8_t {
    kFormula,   // atol + rtol * |b|
    kRelative,  // cell_limit * max(|b|, rms(b)), and rel L2 <= l2_limit
    kCells,     // a tensor of bounds, f64, of the same shape
  };
  Kind kind = Kind::kFormula;
  double atol = 0, rtol = 0;
  double l2_limit = HUGE_VAL, cell_limit = 0;
  TensorView cells;

  static BoundSpec exact() { return {}; }
  static BoundSpec formula(double atol, double rtol) {
    BoundSpec bound;
    bound.atol = atol;
    bound.rtol = rtol;
    return bound;
  }
  static BoundSpec relative(double l2_limit, double cell_limit) {
    BoundSpec bound;
    bound.kind = Kind::kRelative;
    bound.l2_limit = l2_limit;
    bound.cell_limit = cell_limit;
    return bound;
  }
  static BoundSpec per_cell(const TensorView& bounds) {
    BoundSpec bound;
    bound.kind = Kind::kCells;
    bound.cells = bounds;
    return bound;
  }
};

// Of two types, the one with fewer bits of precision; a floating one before an integer.
DType coarser(DType a, DType b);
// spec tensor-parallel.md section 4: rel L2 <= c u sqrt(layers + 1), cells eight times that, c = 32
// in f32 and f64, 3 in shorter types. Between two types without rounding: exact.
BoundSpec default_bound(DType a, DType b, std::int64_t layers);

struct CompareOptions {
  BoundSpec bound;
  // 1 = do not compare this cell; uint8 or bool, the tensor's number of axes, each its size or 1.
  const TensorView* ignore = nullptr;
  int threads = 0;  // 0 = one a core; the result does not depend on it
};

// Cells of one side by class, ignored cells left out. Classes are those of the tensor's own type.
struct ClassCounts {
  std::int64_t nan = 0, pos_inf = 0, neg_inf = 0;
  std::int64_t lowest = 0;     // the most negative finite value, which masks use for -inf
  std::int64_t subnormal = 0;  // these are numbers like any other
  std::int64_t nonfinite() const { return nan + pos_inf + neg_inf; }
};

// candidate = slope * expected + intercept, by least squares. Undefined where expected is constant,
// and not computed for a tensor that is ok.
struct Regression {
  bool defined = false;
  double slope = 0, intercept = 0, r2 = 0;
};

// Errors by size, in steps of 4. Bucket 0: equal; bucket k: 2^-55 4^k <= |a - b| < 2^-53 4^k; the
// first and the last of these take what is smaller and what is larger.
inline constexpr int kHistogramBuckets = 32;

struct Comparison {
  bool same_shape = true;
  bool bit_equal = false;  // same type and not one compared bit differs
  std::int64_t compared = 0, ignored = 0;

  ClassCounts candidate, expected;
  std::int64_t class_cells = 0;            // a class on either side: compared, but no distance
  std::int64_t class_mismatches = 0;       // a class met by another, or by a number
  std::int64_t first_class_mismatch = -1;  // flat index
  std::int64_t nan_on_both = 0;            // equal, but nothing was compared there
  std::int64_t flushed = 0;                // subnormal expected, zero found

  // Over the cells that are numbers on both sides:
  double max_abs = 0;  // of 32-bit types and shorter ones, the largest but for one float rounding
  std::int64_t max_abs_at = -1;  // flat index; -1: all equal
  std::int64_t max_ulp = 0;      // after rounding both sides to the coarser type
  double rel_l2 = 0;             // ||a - b|| / ||b||; 0 for 0/0, infinite for x/0
  double rms_candidate = 0, rms_expected = 0;
  double cosine = 1;  // of two zero vectors 1, of a zero and another vector 0
  Regression regression;
  std::array<std::int64_t, kHistogramBuckets> histogram{};

  std::int64_t over = 0;         // cells with an error over their bound
  std::int64_t first_over = -1;  // flat index
  double cell_ratio = 0;         // worst error / bound of one cell; infinite where the bound is 0
  std::int64_t worst_at = -1;    // its flat index; -1: all equal
  double l2_ratio = 0;           // rel_l2 / l2_limit
  double ratio = 0;              // the larger of the two; <= 1 is ok

  bool ok() const { return same_shape && class_mismatches == 0 && ratio <= 1; }
  // The lowest flat index that is wrong; the worst cell where only the whole is; -1 when ok().
  std::int64_t first_wrong() const;
};

Comparison compare(const TensorView& candidate, const TensorView& expected,
                   const CompareOptions& options);

// |error| / bound of one cell, by what compare() said; NaN where the classes differ. Marks are not
// looked at.
double cell_ratio(const TensorView& candidate, const TensorView& expected, const BoundSpec& bound,
                  const Comparison& compared, std::int64_t i);

}  // namespace ps
