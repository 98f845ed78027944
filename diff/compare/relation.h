// What turns the expected tensor into the candidate, where it is one simple thing.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "diff/compare/axes.h"
#include "diff/compare/compare.h"

namespace ps {

// Whether candidate cell i may stand for expected cell j: within j's bound, or of its class.
using SameCell = std::function<bool(std::int64_t i, std::int64_t j)>;

// "1.0101 x expected", "expected + 0.5", "moved by 1 along query", "heads 0 1 2 3 hold 2 3 0 1",
// "negated", "another tensor: all zero"; empty where none of these explains every compared cell.
std::string relation_of(const TensorView& candidate, const TensorView& expected,
                        const Comparison& compared, const std::vector<NamedAxis>& axes,
                        const SameCell& same, const std::function<bool(std::int64_t)>& ignored);

}  // namespace ps
