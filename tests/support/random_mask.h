// Random mask programs that use every op, with arrays, defs, offsets and awkward sizes.
#pragma once

#include "diff/mask/program.h"

namespace ps::mask {

Program random_program(std::uint64_t seed);

}  // namespace ps::mask
