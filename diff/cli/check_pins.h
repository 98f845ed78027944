// What a check is of, for its progress file: everything that its verdict follows from.
#pragma once

#include "core/result.h"
#include "diff/cli/arguments.h"
#include "diff/cli/engines.h"
#include "diff/isolate/check_progress.h"

namespace ps::cli {

// Weights by the size and time of their files: hashing hundreds of gigabytes would cost what a
// resumed check saves. The candidate's values are compared one by one besides.
Result<Pins> check_pins(const Arguments& arguments, const Model& model, const Model& candidate,
                        const EngineChoice& choice, const RunPlan& plan);

}  // namespace ps::cli
