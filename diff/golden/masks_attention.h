// Plain attention in float64 under a mask, for the outputs that mask cases store (masks.md 8).
#pragma once

#include <vector>

#include "core/tensor.h"
#include "diff/mask/mask.h"

namespace ps {

struct AttentionOutput {
  std::vector<double> out;  // [B,H,Q,D]; 0 where a query sees no key
  std::vector<double> lse;  // [B,H,Q]; -inf there
};

// q [B,H,Q,D], k and v [B,kv_heads,KV,D].
AttentionOutput masked_attention(const mask::Mask& mask, const TensorView& q, const TensorView& k,
                                 const TensorView& v, double scale);

}  // namespace ps
