// NaN and infinities in captured values.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "core/engine.h"
#include "core/tensor.h"

namespace ps {

// The first cell that is no number; -1: none, or of a type that has none.
std::int64_t first_nonfinite(const TensorView& value);

// Points as they were captured, but that values which attention weighs are 0 where they are no
// numbers.
class FiniteValues {
 public:
  explicit FiniteValues(const PointLookup& given) : given_(given) {}
  PointLookup lookup() const;

 private:
  const PointLookup& given_;
  mutable std::map<std::string, Tensor> kept_;
};

}  // namespace ps
