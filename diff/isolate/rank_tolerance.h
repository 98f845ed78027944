// What a report says about the tolerance of a run over tensor-parallel ranks (tensor-parallel.md
// section 4). The bounds themselves are derived per op, in reference/bounds.cpp.
#pragma once

#include <string>

#include "core/dtype.h"
#include "diff/report/report.h"

namespace ps {

// Root mean square error of a row-parallel sum over `tp` ranks in units of the type's round-off:
// parts rounded to the type and added there in rank order.
double row_parallel_rms(std::int64_t tp);

// The sentence in words, and as "tolerance_over_ranks" in the report's environment. Nothing for one
// rank.
std::string rank_tolerance(DType run, std::int64_t tp, std::int64_t layers);
void state_rank_tolerance(DType run, std::int64_t tp, std::int64_t layers, Report& report);

}  // namespace ps
