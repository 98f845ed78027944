// Wrong shapes that have one cause in the config: the number on which all of a checkpoint's
// projections agree, where the config says another.
#pragma once

#include <vector>

#include "core/checkpoint.h"
#include "core/finding.h"

namespace ps {

std::vector<Finding> weight_shape_findings(const Checkpoint& checkpoint, const ModelConfig& config);

// Which fields of the config a prefix [P,K,T,D] contradicts: "parscale_n_tokens is 48, here 8"; ""
// for other tensors.
std::string prefix_fields(const std::string& name, const Shape& found, const ModelConfig& config);

}  // namespace ps
