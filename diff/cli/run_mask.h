// --mask: a mask program as the mask of every step of a run.
#pragma once

#include <string>

#include "core/config.h"
#include "core/result.h"
#include "diff/run/script.h"

namespace ps::cli {

// `word` is a program's file or an expression (diff/mask/source.h). Its B is 1 or the prompt's
// batch, its H 1 or the model's (a run of several ranks needs heads that are alike); Q, KV and
// q_offset become those of each step: Q new tokens, KV = prefix + past + Q columns, q_offset =
// past. Every step is tried here, so that none can fail later.
Result<void> use_mask(const std::string& word, const ModelConfig& config, std::int64_t tp,
                      RunPlan& plan);

}  // namespace ps::cli
