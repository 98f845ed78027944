// Where the tokens of a run come from: a prompt, a file, or random numbers.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

#include "core/config.h"
#include "core/engine.h"
#include "core/result.h"

namespace ps {

// One token a byte; for models with a vocabulary of 256.
Result<StepInputs> inputs_from_prompt(std::string_view text, const ModelConfig& config);

// [[ids]] or {"input_ids": [[..]], "attention_mask": [[..]], "position_ids": [[..]]}.
Result<StepInputs> inputs_from_file(const std::filesystem::path& path, const ModelConfig& config);
Result<StepInputs> inputs_from_json(std::string_view json, const std::string& where,
                                    const ModelConfig& config);

// Ragged left padding: row 0 is whole, each other row starts after 0 to length/2 padding tokens.
StepInputs random_inputs(std::int64_t batch, std::int64_t length, std::uint64_t seed,
                         const ModelConfig& config);

// Cumulative count of real tokens less one, 1 on padding: what generate() passes.
std::vector<std::int64_t> positions_of_mask(const std::vector<std::int64_t>& mask,
                                            std::int64_t batch, std::int64_t length);

}  // namespace ps
