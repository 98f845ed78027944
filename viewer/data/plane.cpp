#include "viewer/data/plane.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <tuple>

#include "core/float_bits.h"
#include "viewer/app/command_words.h"

namespace ps::viewer {

std::string Cut::row_name() const {
  return row_axis < 0 ? "" : axes[static_cast<std::size_t>(row_axis)].name;
}
std::string Cut::column_name() const {
  return column_axis < 0 ? "" : axes[static_cast<std::size_t>(column_axis)].name;
}

Cut cut_of(const std::vector<NamedAxis>& axes, const Selection& selection, const Display& display) {
  Cut cut;
  cut.axes = axes;
  std::tie(cut.row_axis, cut.column_axis) = matrix_axes(display, axes);
  std::int64_t stride = 1;
  for (std::ptrdiff_t i = std::ssize(axes); i-- > 0;) {
    const NamedAxis& axis = axes[static_cast<std::size_t>(i)];
    if (i == cut.row_axis) {
      cut.rows = axis.size;
      cut.row_stride = stride;
    } else if (i == cut.column_axis) {
      cut.columns = axis.size;
      cut.column_stride = stride;
    } else {
      cut.first += selection.at(axis.name, axis.size) * stride;
    }
    stride *= axis.size;
  }
  return cut;
}

std::int64_t ulps_between(double a, double b, DType type) {
  switch (type) {
    case DType::kF64:
      return std::llabs(ordinal(a) - ordinal(b));
    case DType::kF32:
      return std::llabs(ordinal(static_cast<float>(a)) - ordinal(static_cast<float>(b)));
    case DType::kF16:
      return std::llabs(ordinal16(float_to_f16(static_cast<float>(a))) -
                        ordinal16(float_to_f16(static_cast<float>(b))));
    case DType::kBF16:
      return std::llabs(ordinal16(float_to_bf16(static_cast<float>(a))) -
                        ordinal16(float_to_bf16(static_cast<float>(b))));
    default: {
      const double steps =
          std::fabs(a - b) / (2 * unit_roundoff(type) > 0
                                  ? 2 * unit_roundoff(type) * std::max(std::fabs(b), 1e-30)
                                  : 1);
      return static_cast<std::int64_t>(std::min(steps, 9e18));
    }
  }
}

TensorPair::TensorPair(const TensorView& actual, const TensorView& expected, std::int64_t layers)
    : actual_(actual),
      expected_(expected),
      bound_(default_bound(actual.dtype, expected.dtype, layers)),
      coarser_(coarser(actual.dtype, expected.dtype)) {
  CompareOptions options;
  options.bound = bound_;
  comparison_ = compare(actual_, expected_, options);
}

CellValues TensorPair::at(std::int64_t flat) const {
  CellValues out;
  out.actual = value_at(actual_, flat);
  out.expected = value_at(expected_, flat);
  const ValueClass a = classify(out.actual), b = classify(out.expected);
  const auto special = [](ValueClass c) {
    return c == ValueClass::kNan || c == ValueClass::kPosInf || c == ValueClass::kNegInf;
  };
  if (special(a) || special(b)) {
    if (a == b) return out;
    out.abs = out.rel = out.ratio = std::numeric_limits<double>::quiet_NaN();
    out.ulp = std::numeric_limits<std::int64_t>::max();
    return out;
  }
  out.abs = std::fabs(out.actual - out.expected);
  if (out.abs == 0) return out;
  out.rel = out.expected == 0 ? std::numeric_limits<double>::infinity()
                              : out.abs / std::fabs(out.expected);
  out.ulp = ulps_between(out.actual, out.expected, coarser_);
  out.ratio = cell_ratio(actual_, expected_, bound_, comparison_, flat);
  return out;
}

double TensorPair::measure(Metric metric, std::int64_t flat) const {
  const CellValues v = at(flat);
  switch (metric) {
    case Metric::kRatio:
      return v.ratio;
    case Metric::kAbs:
      return v.abs;
    case Metric::kRel:
      return v.rel;
    case Metric::kUlp:
      return std::isnan(v.abs) ? v.abs : static_cast<double>(v.ulp);
  }
  return 0;
}

}  // namespace ps::viewer
