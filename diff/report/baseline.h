// --baseline FILE: findings of an earlier report.json are accepted, and only new ones fail.
#pragma once

#include <filesystem>

#include "core/result.h"
#include "diff/report/report.h"

namespace ps {

// A finding is known when id, point, step and rank are; as often as the baseline has it. Known
// errors and warnings become infos that say so; the verdict stays true, exit_code() fails only on
// what is new. Report::baseline says what was accepted, what is gone, which points diverge anew.
Result<Report> apply_baseline(Report report, const std::filesystem::path& path);

// The finding was an error or a warning, and the baseline has it.
bool is_accepted(const Finding& finding);

}  // namespace ps
