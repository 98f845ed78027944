// Clean random configurations: architecture, sizes, types, padding, decode, chunks and beams drawn
// from a seed. A correct candidate must never be called wrong on one.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "core/dtype.h"

namespace ps {

struct SoakResult {
  bool equivalent = false;
  std::string what;     // the configuration in one line
  std::string trouble;  // where it was called wrong
  double worst_ratio = 0;
  std::string worst_point;
  DType dtype = DType::kF32;
};

// Writes the model below `dir` (and leaves it there), runs candidate and reference in lockstep.
SoakResult soak_one(std::uint64_t seed, std::uint64_t index, const std::filesystem::path& dir);

}  // namespace ps
