// Output files are proved writable before the work starts.
#pragma once

#include <filesystem>

#include "core/result.h"

namespace ps::cli {

// Writes and removes a file beside `path`. The Error names the path, who is asking, and the first
// parent that is missing.
Result<void> probe_output(const std::filesystem::path& path);
// The same of a folder that is yet to be made, parents included: makes it, writes into it, and
// takes away what it made.
Result<void> probe_output_dir(const std::filesystem::path& dir);

}  // namespace ps::cli
