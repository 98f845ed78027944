// A value while its axes are being changed, and the moves that do it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/result.h"
#include "core/tensor.h"
#include "diff/foreign/axes.h"

namespace ps {

// One factor an axis.
struct Work {
  Tensor value;
  std::vector<std::string> letters;
};

Tensor slice(const TensorView& v, std::size_t axis, std::int64_t begin, std::int64_t size);
// Axis i of what is returned is axis order[i] of `from`.
Tensor permuted(const Tensor& from, const std::vector<std::size_t>& order);
// Flattened tokens (t), paged caches (page, slot) and slots (c) become B, S and C.
Result<void> to_batch(Work& work, const BatchMap& batch);

}  // namespace ps
