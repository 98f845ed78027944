// The classes of a cell, which come before any distance: NaN, the infinities, and the lowest value
// of a type, which masks use for -infinity.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "diff/compare/kernel.h"

namespace ps {

enum class CellClass : std::uint8_t { kNumber, kNan, kPosInf, kNegInf, kLowest };
CellClass class_of(double x, DType dtype);

enum class CellPair : std::uint8_t {
  kNumbers,   // a distance says how far they are apart
  kAlike,     // both NaN, both the same infinity, both the lowest value
  kMismatch,  // of two classes, or a class and a number
};
CellPair pair_of(double a, DType a_type, double b, DType b_type);

ClassLimits limits_of(DType dtype);  // of integers: none

}  // namespace ps
