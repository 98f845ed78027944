// Inputs that leave few faults unseen: what a probe of this model needs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/config.h"
#include "diff/run/script.h"

namespace ps {

struct Recommended {
  RunPlan plan;
  std::vector<std::string> reasons;  // "3 rows with ragged padding: ..."
};
Recommended recommended_inputs(const ModelConfig& config, std::uint64_t seed);

}  // namespace ps
