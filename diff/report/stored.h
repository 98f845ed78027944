// A report.json that was written before.
#pragma once

#include <filesystem>

#include "core/result.h"
#include "diff/report/report.h"

namespace ps {

// All of it, but for `baseline`, which says nothing of the run. Numbers that JSON cannot hold read
// back as NaN.
Result<Report> read_report(const std::filesystem::path& path);
// Its verdict and its findings only, for --explain.
Result<Report> read_stored_findings(const std::filesystem::path& path);

}  // namespace ps
