// The steps of a run in a row, for a scrubber: what each did, and whether something broke in it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/config.h"
#include "core/trace.h"
#include "diff/report/report.h"

namespace ps::view {

struct StepMark {
  std::int64_t step = 0;
  StepOp op = StepOp::kForward;
  std::int64_t tokens = 0, past = 0;
  std::int64_t wrong_points = 0;   // whose own op is wrong, by the report
  std::int64_t passed_points = 0;  // that only inherited it
  double ratio = 0;                // the worst finite one
  std::string first_wrong;         // point
  std::string cache;               // what is wrong with the cache after it; empty: nothing
  bool ok() const { return wrong_points == 0 && cache.empty(); }
};

// Of one rank. Either may be null; `config` is what caches are judged by.
std::vector<StepMark> step_marks(const Trace* trace, const ModelConfig* config,
                                 const Report* report, std::int64_t rank);

}  // namespace ps::view
