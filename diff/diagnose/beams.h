// A cache that a beam step left in the wrong order: which mistake gives these rows.
#pragma once

#include <cstdint>
#include <vector>

#include "core/finding.h"
#include "core/tensor.h"
#include "diff/report/report.h"

namespace ps {

bool moves_rows(const std::vector<std::int64_t>& beam_idx);
// `before`: the cache [R,...] that was to be reordered; `after`: what the candidate has.
Finding reorder_finding(const FirstDivergence& first, const PointRow& row, const TensorView& before,
                        const TensorView& after, const std::vector<std::int64_t>& beam_idx,
                        std::int64_t replicas);

}  // namespace ps
