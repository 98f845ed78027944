// What the questions of a probe share: runs that they may change, and engines that may refuse them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "diff/sparse/probe_questions.h"

namespace ps {

// q, k, v of each layer in float32, so that a probe may write into them.
struct Run {
  std::vector<Tensor> q, k, v;
  std::optional<Tensor> mask;
};
Result<Run> run_of(const SparseCase& base);

// Tokens [begin, end) of the third axis.
Tensor sliced(const Tensor& t, std::int64_t begin, std::int64_t end);

Result<std::vector<SparseLayer>> play(SparseEngine& engine, const Run& run);
// A run of a fresh engine; none, and a finding, where it refuses what the contract allows. Without
// a code the finding is unnamed.
Result<std::vector<SparseLayer>> fresh(const ProbeContext& c, const SparseConfig& config,
                                       const Run& run, const char* code, const char* what);

// Within the outputs' own rounding, as a share of the greatest of them.
bool close(const Tensor& a, const Tensor& b);

std::string point_of(std::size_t layer, const char* what);  // "probe/layer1/out"

}  // namespace ps
