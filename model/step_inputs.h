// A step's inputs, checked and completed: what the kernels read.
#pragma once

#include <cstdint>
#include <vector>

#include "core/config.h"
#include "core/engine.h"
#include "core/result.h"

namespace ps {

struct PreparedInputs {
  std::int64_t batch = 0, tokens = 0, past = 0, keys = 0;  // keys = past + tokens
  std::vector<std::int64_t> ids{};                         // [batch, tokens]
  std::vector<std::uint8_t> key_valid{};                   // [batch, keys]
  std::int64_t position_rows = 1;         // 1, or replicas * batch where ids were given
  std::vector<std::int64_t> positions{};  // [position_rows, tokens]
  std::vector<std::uint8_t> visible{};    // [batch, 1 or heads, tokens, prefix + keys], or empty
  std::int64_t empty_rows = 0;  // rows of [replicas * batch, tokens] that see no key at all
};

Result<PreparedInputs> prepare_inputs(const StepInputs& inputs, const ModelConfig& config,
                                      std::int64_t past, std::int64_t cached_batch);

}  // namespace ps
