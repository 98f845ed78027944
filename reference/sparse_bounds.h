// Bounds for the ops of block-sparse attention: what is selected by is held in float32 whatever the
// run's type is; lists are exact but for near ties.
#pragma once

#include "reference/bounds.h"

namespace ps::reference {

// Of an op whose kind starts with "block_", or is "sparse_probs".
at::Tensor sparse_bound(const Op& op, const StepContext& context, const Tensors& in,
                        const Tensors& w, const at::Tensor& out, const RoundingUnits& u);

}  // namespace ps::reference
