// Two tensors as their files hold them: a NaN is itself, and -0 is not 0.
#pragma once

#include <cstring>

#include "core/tensor.h"

namespace ps {

inline bool same_bytes(const TensorView& a, const TensorView& b) {
  return a.dtype == b.dtype && a.shape == b.shape && a.bytes.size() == b.bytes.size() &&
         (a.bytes.empty() || std::memcmp(a.bytes.data(), b.bytes.data(), a.bytes.size()) == 0);
}

}  // namespace ps
