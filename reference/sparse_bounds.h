// Bounds for the ops of block-sparse attention: what is selected by is held in float32 whatever the
// run's type is; lists are exact but for near ties.
#pragma once

#include "core/sparse_attention.h"
#include "reference/bounds.h"

namespace ps::reference {

// Of an op whose kind starts with "block_", or is "sparse_probs".
at::Tensor sparse_bound(const Op& op, const StepContext& context, const Tensors& in,
                        const Tensors& w, const at::Tensor& out, const RoundingUnits& u);

// Of a list of blocks: 1.01 where a block's score is so near to where its row was cut that it may
// be taken or not. `slack`: how far off each score may be, in logarithms; undefined: it was given.
at::Tensor near_ties(const SparseAttention& sparse, const StepContext& context, const Tensors& in,
                     const at::Tensor& out, const at::Tensor& slack);

}  // namespace ps::reference
