// Which tensor of one trace stands for which of the other: by step, rank and canonical name, in the
// order of a report.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "core/trace.h"

namespace ps {

// What another producer's name means here; returns the name itself where there is no rule.
using Rename = std::function<std::string(std::string_view name)>;

struct Pair {
  std::int64_t step = 0;
  std::int64_t rank = 0;
  std::string point;                      // canonical
  const TensorView* candidate = nullptr;  // null: missing there
  const TensorView* expected = nullptr;   // null: only the candidate has it
};

// A step of one rank, of both traces; one of them may lack it.
struct StepPair {
  std::int64_t step = 0;
  std::int64_t rank = 0;
  const TraceStep* candidate = nullptr;
  const TraceStep* expected = nullptr;
  std::vector<Pair> pairs;  // by point_before; the inputs of the step are not among them
};

bool is_step_input(std::string_view name);
std::vector<StepPair> pair_traces(const Trace& candidate, const Trace& expected,
                                  const Rename& rename);
// Layers that the names of either side show: the highest number and one.
std::int64_t layers_shown(const std::vector<StepPair>& steps);

}  // namespace ps
