// A matrix cut out of a tensor by two of its axes, and what two such matrices differ by.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "diff/compare/axes.h"
#include "diff/compare/compare.h"
#include "viewer/app/selection.h"

namespace ps::viewer {

// Which cells of a tensor are shown: rows and columns run over two axes, the other axes stand where
// the selection stands.
struct Cut {
  std::vector<NamedAxis> axes;
  std::ptrdiff_t row_axis = -1, column_axis = -1;
  std::int64_t rows = 1, columns = 1;
  std::int64_t first = 0, row_stride = 0, column_stride = 0;  // in elements

  std::int64_t flat(std::int64_t row, std::int64_t column) const {
    return first + row * row_stride + column * column_stride;
  }
  std::string row_name() const, column_name() const;  // empty where there is no such axis
  // The same cells; names do not count.
  bool operator==(const Cut& other) const {
    return rows == other.rows && columns == other.columns && first == other.first &&
           row_stride == other.row_stride && column_stride == other.column_stride;
  }
};
Cut cut_of(const std::vector<NamedAxis>& axes, const Selection& selection, const Display& display);

// What one cell holds on both sides.
struct CellValues {
  double actual = 0, expected = 0;
  double abs = 0, rel = 0;  // NaN where the classes differ (NaN, infinities)
  std::int64_t ulp = 0;     // in the coarser of the two types
  double ratio = 0;         // |error| / bound
};

// Two tensors of one shape, compared once; then any cell can be asked.
class TensorPair {
 public:
  TensorPair(const TensorView& actual, const TensorView& expected, std::int64_t layers);
  const Comparison& comparison() const { return comparison_; }
  CellValues at(std::int64_t flat) const;
  double measure(Metric metric, std::int64_t flat) const;  // NaN: the classes differ

 private:
  TensorView actual_, expected_;
  BoundSpec bound_;
  DType coarser_;
  Comparison comparison_;
};

// Distance in units of the last place of `type`, both rounded to it first.
std::int64_t ulps_between(double a, double b, DType type);

}  // namespace ps::viewer
