// The projection that spec sparse.md recommends for a walk: a subsampled randomised Hadamard
// transform. A case stores its projection as data; this makes one for a new case.
#pragma once

#include <cstdint>

#include "core/tensor.h"

namespace ps {

// [dim, r] float32: diag(+-1) times r different columns of the Hadamard matrix of size n, the next
// power of two at or above `dim`, over sqrt(r). r <= n; with r == n inner products are kept.
Tensor srht_sketch(std::int64_t dim, std::int64_t r, std::uint64_t seed);

}  // namespace ps
