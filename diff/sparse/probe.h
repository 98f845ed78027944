// Questions that only a running implementation can answer: it is run on a case's inputs, again with
// a token changed, with batch entries exchanged, with a larger tau, one token after another. What
// it made of the case itself is then checked as any case is.
#pragma once

#include <functional>
#include <memory>

#include "core/result.h"
#include "core/sparse.h"
#include "diff/report/report.h"
#include "diff/sparse/case.h"
#include "diff/sparse/check.h"

namespace ps {

using MakeSparseEngine =
    std::function<Result<std::unique_ptr<SparseEngine>>(const SparseConfig& config)>;

// The case with `engine`'s lists, states and outputs instead of the stored ones.
Result<SparseCase> run_sparse_case(const SparseCase& base, SparseEngine& engine);

// SP001 to SP024, those of check_sparse_case on what the engine makes of the case included. An
// engine that refuses a call that the contract allows is a finding, not an Error.
Result<Report> probe_sparse_engine(const SparseCase& base, const MakeSparseEngine& make,
                                   SparseReference& reference, const SparseCheckOptions& options);

}  // namespace ps
