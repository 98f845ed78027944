// One finding's chain of evidence in plain words: what was compared with what, how wrong it was,
// what replaying the fault left of that, what else would explain it, and what to do.
#pragma once

#include <string>

#include "core/result.h"
#include "diff/report/report.h"

namespace ps {

// `which`: the finding's number in the report, from 1, or its id (the first of that id). An Error
// names what there is. A report without findings is explained as such.
Result<std::string> explain_finding(const Report& report, const std::string& which);

}  // namespace ps
