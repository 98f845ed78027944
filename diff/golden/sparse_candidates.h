// The candidates of a sparse golden case: lists that were corrupted by rules known by name, and the
// counts that a checker of lists must find in them.
#pragma once

#include <set>
#include <string>

#include "core/result.h"
#include "diff/sparse/case.h"
#include "diff/sparse/masks.h"

namespace ps {

// What the candidates were made from: layer 0, batch entry 0, head 0.
struct CandidateBasis {
  const SparseCase& golden;
  const SparseInputs& inputs;
  const PairMask& allowed;   // blocks, [1,1,nb,nb]
  const BlockLists& lists;   // the reference's, [1,1,nb]
  const Tensor& transition;  // the reference's W; empty for gates
  const Tensor& out;         // the reference's, all batches and heads
};

// How many candidates there were. Tensors that only candidates explain are added to `seen`.
Result<std::int64_t> verify_candidates(const CandidateBasis& basis, std::set<std::string>& seen);

}  // namespace ps
