// A trace may begin in the middle of a run, or leave steps out: what was in the cache then follows
// from what the step itself holds.
#pragma once

#include <cstdint>
#include <optional>

#include "core/config.h"
#include "core/trace.h"

namespace ps {

// Tokens in the cache before this step, without the prefix: from its attention_mask, else from its
// caches less prefix and new tokens, else from its position_ids. Nothing where none of them says.
// `doubt`: by its number the step is the first of a run, whose cache or mask may well be wrong.
// Then two of them must say the same, or many slots stand before one token.
std::optional<std::int64_t> past_said_by(const TraceStep& step, const ModelConfig& config,
                                         bool doubt);

}  // namespace ps
