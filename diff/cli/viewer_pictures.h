// Pictures of a report as the viewer draws them, for its HTML page.
#pragma once

#include <filesystem>
#include <vector>

#include "diff/report/forms.h"

namespace ps::cli {

// The same bytes that `parscope view DIR --screenshot` makes with the words of the caption. None
// where the viewer was not built, or fails: a report is whole without them.
std::vector<ReportPicture> viewer_pictures(const Report& report, const std::filesystem::path& dir);

}  // namespace ps::cli
