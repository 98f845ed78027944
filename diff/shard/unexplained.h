// A wrong shard that no known mistake makes: what its numbers look like (tensor-parallel.md 7.1).
#pragma once

#include "diff/shard/hypotheses.h"

namespace ps {

// TP007, and whether that was never written, is as torch initialises, or is nothing known.
Hypothesis unexplained(const ShardQuestion& question);

}  // namespace ps
