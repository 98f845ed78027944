// What the numbers of a checkpoint say without running it: memory that nobody wrote, weights that
// still hold what an initialiser put there, replicas that cannot differ.
#pragma once

#include <vector>

#include "core/checkpoint.h"
#include "core/finding.h"

namespace ps {

// `initializer_range`: the config's, the spread of a freshly made normal weight. One pass over all
// tensors.
std::vector<Finding> weight_value_findings(const Checkpoint& checkpoint, double initializer_range);

}  // namespace ps
