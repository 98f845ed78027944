#include "diff/picture/grid.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

namespace ps {

ErrorGridBuilder::ErrorGridBuilder(const Shape& shape, std::int64_t most_rows,
                                   std::int64_t most_columns) {
  const std::int64_t count = count_of(shape);
  grid_.tensor_columns = shape.empty() ? 1 : shape.back();
  grid_.tensor_rows = grid_.tensor_columns == 0 ? 0 : count / grid_.tensor_columns;
  grid_.rows = std::min(grid_.tensor_rows, most_rows);
  grid_.columns = grid_.rows == 0 ? 0 : std::min(grid_.tensor_columns, most_columns);
  grid_.worst.assign(static_cast<std::size_t>(grid_.rows * grid_.columns), 0.0F);
}

void ErrorGridBuilder::add(std::int64_t first, std::span<const float> ratios) {
  for (std::size_t i = 0; i < ratios.size(); ++i) {
    add(first + static_cast<std::int64_t>(i), static_cast<double>(ratios[i]));
  }
}

void ErrorGridBuilder::add(std::int64_t index, double ratio) {
  if (index < 0 || index >= grid_.tensor_rows * grid_.tensor_columns) return;
  // Block b holds the cells i with i * blocks / cells == b: each cell is in exactly one.
  const std::int64_t row = index / grid_.tensor_columns * grid_.rows / grid_.tensor_rows;
  const std::int64_t column = index % grid_.tensor_columns * grid_.columns / grid_.tensor_columns;
  float& worst = grid_.worst[static_cast<std::size_t>(row * grid_.columns + column)];
  const bool broken = std::isnan(ratio);
  if (broken) {
    worst = std::numeric_limits<float>::quiet_NaN();  // and stays it: no ratio is larger
  } else if (ratio > static_cast<double>(worst)) {
    worst = static_cast<float>(ratio);
    // Rounding to float must not make a wrong cell right.
    if (ratio > 1 && worst <= 1.0F) worst = std::nextafter(1.0F, 2.0F);
  }
  if (broken || ratio > 1) ++grid_.over;
  const double size = broken ? std::numeric_limits<double>::infinity() : ratio;
  const bool earlier = size == grid_.largest && grid_.largest_at >= 0 && index < grid_.largest_at;
  if (size > grid_.largest || earlier) {
    grid_.largest = size;
    grid_.largest_at = index;
  }
}

ErrorGrid error_grid(const TensorView& candidate, const TensorView& expected,
                     const TensorView& bound) {
  ErrorGridBuilder builder(candidate.shape);
  for (std::int64_t i = 0; i < candidate.count(); ++i) {
    const double a = value_at(candidate, i), e = value_at(expected, i);
    double ratio = 0;
    if (std::isfinite(a) && std::isfinite(e)) {
      const double error = std::fabs(a - e), allowed = value_at(bound, i);
      ratio = error == 0 ? 0 : error / allowed;
    } else if (!(a == e || (std::isnan(a) && std::isnan(e)))) {
      ratio = std::nan("");
    }
    builder.add(i, ratio);
  }
  return builder.grid();
}

}  // namespace ps
