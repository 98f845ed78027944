// A model directory with random weights for a config: norms near 1, everything else small, in the
// config's own type.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

#include "core/checkpoint.h"

namespace ps {

Model random_model(const std::filesystem::path& dir, std::string_view config_json,
                   std::uint64_t seed);

}  // namespace ps
