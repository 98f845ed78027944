// Two tensors as their files hold them: a NaN is itself, and -0 is not 0.
#pragma once

#include <algorithm>

#include "core/tensor.h"

namespace ps {

inline bool same_bytes(const TensorView& a, const TensorView& b) {
  return a.dtype == b.dtype && a.shape == b.shape &&
         std::equal(a.bytes.begin(), a.bytes.end(), b.bytes.begin(), b.bytes.end());
}

}  // namespace ps
