// The inputs of a sparse golden case, held to what the case was made with.
#pragma once

#include <filesystem>

#include "core/result.h"
#include "diff/sparse/case.h"

namespace ps {

// Some inputs can change without a trace in any output: padding, a tau beyond the number of blocks.
// inputs.json, where a case has it, holds the 64-bit FNV-1a of each input's bytes.
Result<void> same_inputs(const SparseCase& golden, const std::filesystem::path& path);

}  // namespace ps
