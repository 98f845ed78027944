// `parscope diff`: two traces, point by point, without a model.
#pragma once

#include <functional>
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
  // Called for the first divergence, for pictures; ratio(i) is |error| / bound, NaN for another
  // class. row.shape is the shape that was compared.
  std::function<void(const PointRow& row, const std::function<double(std::int64_t i)>& ratio)>
      divergence;
};

Report diff_traces(const Trace& candidate, const Trace& expected, const DiffOptions& options);

}  // namespace ps
