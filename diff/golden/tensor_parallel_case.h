// golden verify for tensor-parallel cases (spec tensor-parallel.md section 10).
#pragma once

#include <filesystem>
#include <string>

#include "core/result.h"

namespace ps {

// A case's folder, or a layouts.json or fsdp.json. What was checked, or what failed first.
Result<std::string> verify_tensor_parallel_case(const std::filesystem::path& path);

Result<std::string> verify_layouts(const std::filesystem::path& file);
Result<std::string> verify_fsdp(const std::filesystem::path& file);

}  // namespace ps
