// A BLAS call as a value. Pure functions build it, and it is run by cuBLASLt on a GPU, by a BLAS on
// a host, and by a bounds-checked interpreter in tests: the transposes, strides and leading
// dimensions under test are those that the GPU gets.
//
// Column-major, as BLAS has it: C[m,n] = alpha op(A)[m,k] op(B)[k,n] (+ bias[m] in every column),
// one rounding for each cell of C, whatever k is. Row-major y = x W^T is the plan with A = W
// transposed. `batch` is a nest of loops, outermost first; each level moves the three pointers by
// its strides.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "core/dtype.h"
#include "model/array.h"

namespace ps {

enum class Transpose : std::uint8_t { kNo, kYes };

struct BatchLevel {
  std::int64_t count = 1;
  std::int64_t stride_a = 0, stride_b = 0, stride_c = 0;
  bool operator==(const BatchLevel&) const = default;
};

struct GemmPlan {
  Transpose op_a = Transpose::kNo, op_b = Transpose::kNo;
  std::int64_t m = 0, n = 0, k = 0;
  std::int64_t lda = 1, ldb = 1, ldc = 1;
  float alpha = 1.f;
  bool bias = false;
  DType type_a = DType::kF32;  // weights may be stored apart; they are rounded to `type` when read
  DType type = DType::kF32;    // of B, C and the bias
  std::array<BatchLevel, 3> batch{};

  std::int64_t batches() const { return batch[0].count * batch[1].count * batch[2].count; }
  std::string describe() const;
};

// y[rows, out] = x[rows, in] W[out, in]^T (+ bias[out]). Operands in order: A = W, B = x, C = y.
GemmPlan plan_linear(const Array& x, const Array& weight, bool bias, const Array& y);

// scores[row, head, query, col] = scale q[row, head, query, dim] . k[row, head / group, col, dim].
// A = k, B = q, C = scores.
GemmPlan plan_scores(const Array& q, const Array& k, float scale, const Array& scores);

// context[row, head, query, dim] = probs[row, head, query, col] v[row, head / group, col, dim].
// A = v, B = probs, C = context.
GemmPlan plan_context(const Array& probs, const Array& v, const Array& context);

// The same calls in fewer levels: a level folds into the next inner one where strides allow it.
GemmPlan folded(GemmPlan plan);

// Elements that an operand must have; empty operands of an empty call need none.
struct GemmExtents {
  std::int64_t a = 0, b = 0, c = 0;
};
GemmExtents extents(const GemmPlan& plan);

// What BLAS would refuse: negative sizes, leading dimensions that are too small, cells of C that
// two batches share.
std::optional<std::string> refused(const GemmPlan& plan);

}  // namespace ps
