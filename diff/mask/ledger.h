// What attention backends did, call by call, and the masks of generation steps: JSON files that a
// run wrote, checked as data. An attention ledger is
//   [{"layer":0,"step":0,"requested":"flex","executed":"sdpa","reason":"...",
//     "device":"cuda:0","mask_device":"cpu","mask_dtype":"bool"}, ...]
// where all but `requested` and `executed` may be left out. A trace may carry the same list, as
// `backends`; there `op` says of what (attention, where it does not).
#pragma once

#include <string>
#include <vector>

#include "core/finding.h"
#include "core/json.h"
#include "core/result.h"
#include "core/trace_extras.h"

namespace ps::mask {

// MK050 a fallback (one finding per pair of backends), MK027 a mask on another device than the
// queries, MK028 a mask that is not bool.
Result<std::vector<Finding>> check_ledger(const Json& json, const std::string& where);
std::vector<Finding> backend_findings(const std::vector<BackendEvent>& events);

// MK040 over a list of mask programs, one a step.
Result<std::vector<Finding>> check_step_list(const Json& json, const std::string& where);

}  // namespace ps::mask
