// Brings a candidate's tensor to the expected shape where the two differ in layout alone, and says
// what it did. Values are never changed: a permuted or repeated tensor is a copy.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/tensor.h"

namespace ps {

struct ShapeMatch {
  TensorView view;   // of the expected shape; into `copy` or into the candidate
  Tensor copy;       // empty where the bytes lie as they should
  std::string what;  // "axes 1 and 2 exchanged"; empty where nothing had to be done
};

// Leading axes of size 1; [P,B,...] for [P*B,...] and other neighbouring axes folded; axes of size
// 1 repeated where the table of points allows it; axes permuted where exactly one way fits.
std::optional<ShapeMatch> match_shape(std::string_view point, const TensorView& candidate,
                                      const Shape& expected);

}  // namespace ps
