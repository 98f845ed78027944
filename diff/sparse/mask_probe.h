// The mask that a block-sparse attention really applies (spec masks.md 6.4): the case is run on its
// own queries and keys, so that its selection is the one it makes, with one-hot values. A key that
// gets any weight shows. Prefill and every decode step behind the cache.
#pragma once

#include <vector>

#include "diff/mask/check.h"
#include "diff/sparse/case.h"

namespace ps {

struct SparseProbedMask {
  std::int64_t step = 0;  // 0 = prefill, 1 ... = decode steps
  std::int64_t layer = 0;
  bool dense = false;  // the engine selected nothing here: every block counts
  mask::Mask applied;  // [B, H, queries, keys]
  // Causality, the case's token mask, and the blocks that the engine says it selected.
  mask::Program expected;
};

Result<std::vector<SparseProbedMask>> probe_sparse_masks(const SparseCase& base,
                                                         SparseEngine& engine);

}  // namespace ps
