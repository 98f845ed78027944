// Brings a candidate's tensor to the expected shape where the two differ in layout alone, and says
// what it did. Values are never changed: a permuted or repeated tensor is a copy.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/tensor.h"

namespace ps {

struct ShapeMatch {
  TensorView view;      // the candidate in the shape of `expected`; into `copy` or the candidate
  TensorView expected;  // all of it, or its last position where the candidate has no other
  Tensor copy, expected_copy;  // empty where the bytes lie as they should
  std::string what;            // "axes taken in the order 0,2,1,3"; empty: nothing had to be done
};

// Leading axes of size 1; [P,B,...] for [P*B,...] and other neighbouring axes folded; axes of size
// 1 repeated where the table of points allows it; axes permuted where exactly one way fits.
// Logits of the last position alone are compared with the last position.
std::optional<ShapeMatch> match_shape(std::string_view point, const TensorView& candidate,
                                      const TensorView& expected);

}  // namespace ps
