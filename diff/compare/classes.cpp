#include "diff/compare/classes.h"

#include <cmath>
#include <limits>

namespace ps {

namespace {

constexpr double kLowestF16 = -65504.0;
constexpr double kLowestBF16 = -0x1.fep127;
constexpr double kLowestF32 = -0x1.fffffep127;

// The lowest value of the tensor's own type; of a wider one, also those of the shorter types: a
// mask of bfloat16 stays what it is when the trace is stored as float32.
bool is_lowest(double x, DType dtype) {
  switch (dtype) {
    case DType::kF8E4M3:
      return x == -448.0;
    case DType::kF8E5M2:
      return x == -57344.0;
    case DType::kF64:
      if (x == std::numeric_limits<double>::lowest()) return true;
      [[fallthrough]];
    case DType::kF32:
    case DType::kBF16:
    case DType::kF16:
      return x == kLowestF16 || x == kLowestBF16 || x == kLowestF32;
    default:
      return false;
  }
}

double highest_of_lowest(DType dtype) {
  if (dtype == DType::kF8E4M3) return -448.0;
  if (dtype == DType::kF8E5M2) return -57344.0;
  return kLowestF16;
}

// 0 for types whose subnormals are nothing special (8 bits) and for integers.
double min_normal(DType dtype) {
  if (dtype == DType::kF64) return 0x1p-1022;
  if (dtype == DType::kF32 || dtype == DType::kBF16) return 0x1p-126;
  return dtype == DType::kF16 ? 0x1p-14 : 0.0;
}

}  // namespace

ClassLimits limits_of(DType dtype) {
  if (!is_floating(dtype)) return {};
  return {highest_of_lowest(dtype), min_normal(dtype)};
}

CellClass class_of(double x, DType dtype) {
  if (std::isnan(x)) return CellClass::kNan;
  if (std::isinf(x)) return x > 0 ? CellClass::kPosInf : CellClass::kNegInf;
  return is_lowest(x, dtype) ? CellClass::kLowest : CellClass::kNumber;
}

CellPair pair_of(double a, DType a_type, double b, DType b_type) {
  const CellClass mine = class_of(a, a_type), theirs = class_of(b, b_type);
  if (mine == CellClass::kNumber && theirs == CellClass::kNumber) return CellPair::kNumbers;
  if (mine == theirs) return CellPair::kAlike;
  // A number that happens to lie near the lowest is compared as a number.
  const bool finite = std::isfinite(a) && std::isfinite(b);
  return finite && a < b / 2 && b < a / 2 ? CellPair::kNumbers : CellPair::kMismatch;
}

}  // namespace ps
