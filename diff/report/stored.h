// A report.json that was written before: its verdict and its findings, for --explain. The points
// are left out.
#pragma once

#include <filesystem>

#include "core/result.h"
#include "diff/report/report.h"

namespace ps {

Result<Report> read_stored_findings(const std::filesystem::path& path);

}  // namespace ps
