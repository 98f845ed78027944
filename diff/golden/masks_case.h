// A case of spec masks.md section 9: a mask program, its cells, block tables and attention outputs
// as torch computed them, and wrong variants with what has to be found out about each.
#pragma once

#include <filesystem>
#include <string>

#include "core/result.h"

namespace ps {

// A sentence on what was checked, or the first thing that is wrong.
Result<std::string> verify_masks_case(const std::filesystem::path& dir);

}  // namespace ps
