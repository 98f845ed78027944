// How far two tensors of equal shape are apart. Value classes come first: a NaN against a number,
// or an infinity against anything else, is a mismatch and never a distance.
#pragma once

#include <cstdint>
#include <string>

#include "core/tensor.h"

namespace ps {

struct Closeness {
  bool same_shape = true;
  std::int64_t compared = 0;
  std::int64_t class_mismatches = 0;  // NaN or infinity on one side, or of another sign
  std::int64_t worst = -1;            // flat index of the worst cell; class mismatches first
  double max_abs = 0;                 // over cells of equal class
  double scale = 0;                   // max |expected| over finite cells
  double rel_l2 = 0;  // ||actual - expected|| / ||expected||, finite cells; 0 for 0/0

  // max_abs <= tolerance * scale and no class mismatch. An all-zero expectation must be met
  // exactly.
  bool within(double tolerance) const;
};

Closeness compare(const TensorView& actual, const TensorView& expected);

// "[2,0,3] is 0.25, expected 0.5" for a flat index.
std::string cell_text(const TensorView& actual, const TensorView& expected, std::int64_t index);
// "[2,0,3]"
std::string index_text(const Shape& shape, std::int64_t index);

}  // namespace ps
