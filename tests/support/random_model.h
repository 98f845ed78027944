// diff/run/random_model.h for tests, where what fails may stop the program.
#pragma once

#include "diff/run/random_model.h"
#include "tests/support/run.h"

namespace ps {

inline Model random_model(const std::filesystem::path& dir, std::string_view config_json,
                          std::uint64_t seed) {
  return value_or_die(write_random_model(dir, config_json, seed));
}

}  // namespace ps
