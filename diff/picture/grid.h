// A tensor of any size as a small grid of its worst cells, built while the tensor streams by: each
// grid cell is the exact maximum over its block, so one wrong cell is never lost by zooming out.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/tensor.h"

namespace ps {

// Rows are all axes but the last, flattened; columns are the last axis.
struct ErrorGrid {
  std::int64_t tensor_rows = 0;
  std::int64_t tensor_columns = 0;
  std::int64_t rows = 0;  // of the grid
  std::int64_t columns = 0;
  std::vector<float> worst;  // [rows, columns]: |error| / bound; NaN: a class differs (NaN, inf)
  std::int64_t over = 0;     // cells of the tensor that are over the bound, NaN included
  double largest = 0;        // infinite when a class differs
  std::int64_t largest_at = -1;  // flat index of the first such cell; -1: all are zero
};

class ErrorGridBuilder {
 public:
  explicit ErrorGridBuilder(const Shape& shape, std::int64_t most_rows = 256,
                            std::int64_t most_columns = 512);
  // |error| / bound of the cells first, first + 1, ...; NaN where a value class differs. Cells may
  // come in any order; those that never come count as 0.
  void add(std::int64_t first, std::span<const float> ratios);
  void add(std::int64_t index, double ratio);
  const ErrorGrid& grid() const { return grid_; }

 private:
  ErrorGrid grid_;
};

// |error| / bound of every cell of two tensors of one shape; a cell that differs where the bound is
// 0 is infinitely wrong.
ErrorGrid error_grid(const TensorView& candidate, const TensorView& expected,
                     const TensorView& bound);

}  // namespace ps
