// What the colours and letters of a strip mean.
#pragma once

#include "diff/report/strip.h"

namespace ps::viewer {

// At the cursor, over the width that is left. Returns how high it is; draws only when asked to.
float strip_legend(const std::vector<LegendEntry>& entries, bool draw);

}  // namespace ps::viewer
