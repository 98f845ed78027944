// Starts the ranks of a run on this machine: sets their variables, starts them, orders what they
// say, passes signals on. What they compute is their own business.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "core/result.h"

namespace ps {

struct LaunchOptions {
  std::int64_t ranks = 1;
  std::vector<std::string> words;  // the program and its arguments
  // After the first rank that fails, for the others to end by themselves.
  std::chrono::milliseconds grace{10000};
};

// Rank 0's stdout is this program's; everything else goes to stderr, each line with its rank.
// Returns the worst exit code; a rank that a signal ended counts as 3.
Result<int> launch(const LaunchOptions& options);

}  // namespace ps
