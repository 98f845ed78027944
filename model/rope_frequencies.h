// Frequencies of RoPE: a handful of numbers, computed once in double (parscale.md 3.4).
#pragma once

#include <cstdint>
#include <vector>

#include "core/config.h"

namespace ps {

struct RopeFrequencies {
  std::vector<float> inverse;     // [dim / 2]
  double attention_factor = 1.0;  // multiplies cosines and sines; not 1 for yarn alone
};

RopeFrequencies rope_frequencies(const Rope& rope, std::int64_t dim, std::int64_t max_positions);

}  // namespace ps
