// A case of spec parscale.md section 8: a small model, its inputs, and what a published
// implementation computed from them in float64 and in its own type.
#pragma once

#include <filesystem>
#include <string>

#include "core/result.h"
#include "diff/golden/golden.h"

namespace ps {

// A sentence on what was checked, or the first thing that is wrong.
Result<std::string> verify_parscale_case(const std::filesystem::path& dir,
                                         const GoldenOptions& options);

}  // namespace ps
