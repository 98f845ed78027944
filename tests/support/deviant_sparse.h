// The candidate's own block-sparse attention with one of the deviations of the published
// implementation (spec sparse.md section 7) done on purpose: its kernels run on other arguments,
// its lists are changed before it attends over them, or its calls are what upstream made of them.
#pragma once

#include <memory>
#include <string>

#include "core/sparse.h"
#include "model/candidate.h"

namespace ps {

// One engine and its wrong twins: "" deviates in nothing. Unknown names end the program.
Result<std::unique_ptr<SparseEngine>> open_deviant_candidate(const SparseConfig& config,
                                                             const SparseWeights& weights,
                                                             const std::string& deviation);

}  // namespace ps
