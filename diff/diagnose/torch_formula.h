// An op in plain torch, for a script that people run without parscope.
#pragma once

#include <string>
#include <vector>

#include "core/config.h"
#include "diff/isolate/judge.h"

namespace ps {

// Lines that compute `y` from the list `x` of the op's inputs and the list `w` of its weights, all
// float64 but masks; empty where an op has no short form, or its inputs were not all captured.
std::vector<std::string> torch_formula(const JudgedPoint& point, const ModelConfig& config);

}  // namespace ps
