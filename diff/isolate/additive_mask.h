// A mask that was captured as numbers to be added to the scores, with its own ways of going wrong.
#pragma once

#include <optional>

#include "core/engine.h"
#include "core/finding.h"

namespace ps {

// The mask as the op means it (true = may attend), and what its numbers give away.
struct AdditiveMask {
  Tensor allowed;  // bool, the captured shape
  std::int64_t nan = 0, ones = 0, lowest = 0, minus_inf = 0;
  bool overflowed_row = false;  // a row without a visible key in which two fills were added
  bool broken() const;          // not what any program means
};
// Nothing where the mask is of bools or integers, or of ones and zeros that mean the same.
std::optional<AdditiveMask> read_additive_mask(const TensorView& mask);

// NaN on visible cells, ones for zeros, two fills added: found without a replay.
std::optional<Finding> additive_mask_finding(const OpInfo& op, const PointLookup& lookup);

}  // namespace ps
