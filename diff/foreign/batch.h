// A step's own inputs as other engines have them: flattened tokens with cu_seqlens, lengths,
// positions. Sequences are padded on the left; who owns which column of the cache is remembered
// from step to step.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "core/engine.h"
#include "diff/foreign/axes.h"

namespace ps {

using RawInputs = std::map<std::string, TensorView>;  // "input_ids", "cu_seqlens", ...

struct StepBatch {
  BatchMap map;
  std::optional<StepInputs> inputs;  // nothing where the step names no tokens
  std::int64_t past = 0;             // columns before this step
};

class BatchTracker {
 public:
  // `tokens`: how many a flattened value of this step has, where no input says; 0: unknown.
  Result<StepBatch> next(const RawInputs& raw, std::int64_t tokens);

 private:
  Result<std::vector<std::int64_t>> lengths_of(const RawInputs& raw, std::int64_t tokens) const;
  void append(StepBatch& step, const std::vector<std::vector<bool>>& real);

  bool started_ = false;
  std::int64_t batch_ = 0, columns_ = 0;
  std::vector<std::vector<bool>> real_;  // [batch][column]
};

}  // namespace ps
