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
// A folder with a case of block-sparse attention: the masks that its engine applies against
// causality, its token mask, and the blocks that it says it selected.
bool is_sparse_case(const std::string& dir);
Result<void> probe_sparse(const Arguments& arguments, const std::string& dir, Report& report);

Result<void> probe_model(const Arguments& arguments, const std::string& model_dir,
                         const std::optional<std::string>& expected, Report& report);

}  // namespace ps::cli
