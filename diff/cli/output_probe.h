// Output files are proved writable before the work starts.
#pragma once

#include <filesystem>

#include "core/result.h"

namespace ps::cli {

// Writes and removes a file beside `path`. The Error names the path, who is asking, and the first
// parent that is missing.
Result<void> probe_output(const std::filesystem::path& path);

}  // namespace ps::cli
