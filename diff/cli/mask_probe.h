// parscope mask probe MODEL_DIR [EXPECTED]
#pragma once

#include <optional>
#include <string>

#include "core/result.h"
#include "diff/cli/arguments.h"
#include "diff/report/report.h"

namespace ps::cli {

// Findings of every layer and step. `expected` is a mask program or text for the whole prompt
// (no chunks, no steps); without it each layer is held to what its config and the inputs say.
Result<void> probe_model(const Arguments& arguments, const std::string& model_dir,
                         const std::optional<std::string>& expected, Report& report);

}  // namespace ps::cli
