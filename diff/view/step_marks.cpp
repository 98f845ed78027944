#include "diff/view/step_marks.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "diff/lint/cache.h"
#include "diff/report/strip.h"

namespace ps::view {

std::vector<StepMark> step_marks(const Trace* trace, const ModelConfig* config,
                                 const Report* report, std::int64_t rank) {
  std::map<std::int64_t, StepMark> marks;
  const auto mark = [&](std::int64_t step) -> StepMark& {
    StepMark& m = marks[step];
    m.step = step;
    return m;
  };
  if (trace != nullptr) {
    std::int64_t past = 0;
    for (const TraceStep& s : trace->steps()) {
      if (s.rank != rank) continue;
      StepMark& m = mark(s.step);
      m.op = s.op;
      m.past = past;
      const TensorView* ids = s.tensors ? s.tensors->find("input_ids") : nullptr;
      if (s.op != StepOp::kForward || ids == nullptr || ids->shape.size() != 2) continue;
      m.tokens = ids->shape[1];
      past += m.tokens;
    }
  }
  if (report != nullptr) {
    for (const PointRow& row : report->points) {
      if (row.rank != rank) continue;
      StepMark& m = mark(row.step);
      if (std::isfinite(row.ratio)) m.ratio = std::max(m.ratio, row.ratio);
      if (is_bad(row)) {
        if (m.wrong_points++ == 0) m.first_wrong = row.point;
      } else if (row.status == PointStatus::kPropagated) {
        ++m.passed_points;
      }
    }
  }
  if (trace != nullptr && config != nullptr) {
    for (const Finding& f : cache_value_findings(*trace, *config)) {
      if (f.rank != rank || f.severity != Severity::kError) continue;
      StepMark& m = mark(f.step);
      if (m.cache.empty()) m.cache = f.point + ": " + f.message;
    }
  }
  std::vector<StepMark> out;
  for (auto& [step, m] : marks) out.push_back(std::move(m));
  return out;
}

}  // namespace ps::view
