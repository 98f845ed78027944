// What ranks issued, against each other: where the lists differ, real ranks hang or add up values
// that do not belong together (TP015).
#pragma once

#include <vector>

#include "core/finding.h"
#include "core/ledger.h"

namespace ps {

// One finding a step, which names the rank that disagrees with most.
std::vector<Finding> ledger_findings(const std::vector<StepLedger>& ledgers);

}  // namespace ps
