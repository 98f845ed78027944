// Small files: whole text in, whole text out (temporary name, sync, rename).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "core/result.h"

namespace ps {

Result<std::string> read_text(const std::filesystem::path& path,
                              std::int64_t limit_bytes = 1 << 28);
Result<void> write_text(const std::filesystem::path& path, std::string_view text);
// Creates the directory, or says which parent is missing or in the way.
Result<void> ensure_directory(const std::filesystem::path& path);

}  // namespace ps
