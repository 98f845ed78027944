// Expressions that the text syntax knows by name.
#pragma once

#include "diff/mask/program.h"

namespace ps::mask {

// P prefix slots in front of the cache, visible to all; the rest is causal, counted after them.
Node parscale_prefix(std::int64_t slots);
// Replicas one after the other on the sequence: causal within a replica, and every replica's token
// at one's own position. `rep` and `pos` are arrays of the program.
Node cross_replica(int rep, int pos);

}  // namespace ps::mask
