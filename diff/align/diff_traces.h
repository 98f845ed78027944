// `parscope diff`: two traces, point by point, without a model.
#pragma once

#include <optional>
#include <utility>

#include "core/result.h"
#include "core/trace.h"
#include "diff/align/pairing.h"
#include "diff/report/report.h"

namespace ps {

struct DiffOptions {
  std::optional<std::pair<double, double>> tolerance;  // atol, rtol; else default_bound()
  bool allow_missing = false;
  int threads = 0;
  Rename rename;
};

Report diff_traces(const Trace& candidate, const Trace& expected, const DiffOptions& options);

}  // namespace ps
