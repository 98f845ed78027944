// A case of spec sparse.md section 10: what an independent implementation selected and computed,
// and lists that were corrupted on purpose with what a checker must count in them.
#pragma once

#include <filesystem>
#include <string>

#include "core/result.h"

namespace ps {

// A sentence on what was checked, or the first thing that is wrong. Every stored number takes part.
Result<std::string> verify_sparse_case(const std::filesystem::path& dir);

}  // namespace ps
