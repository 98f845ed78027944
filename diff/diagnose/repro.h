// The smallest reproduction of the first divergence: the values that its op was replayed from, the
// op's weights, what the candidate made of them and what they should have given, in one file, and a
// short torch script that shows the difference without parscope.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/checkpoint.h"
#include "core/result.h"
#include "diff/isolate/judge.h"
#include "diff/report/report.h"

namespace ps {

// DIR must be empty or not there yet: nothing of anybody's is written over.
Result<void> check_repro_dir(const std::filesystem::path& dir);

class Reproduction {
 public:
  explicit Reproduction(const Model& model) : model_(model) {}

  // Keeps the first wrong point, as long as its step is at hand.
  void look(std::int64_t step, const JudgedPoint& point);
  // repro.safetensors and repro.py; false where the report's first divergence could not be kept (it
  // is one of shape, or of a cache that was reordered).
  Result<bool> write(const std::filesystem::path& dir, const Report& report) const;

 private:
  std::string script(const Report& report) const;

  const Model& model_;
  std::int64_t step_ = 0;
  std::string point_;  // empty: nothing kept
  std::int64_t chain_ = 0;
  std::vector<std::string> weights_, formula_;
  std::vector<std::pair<std::string, Tensor>> inputs_;
  Tensor candidate_, expected_, bound_;
  std::optional<Tensor> ignored_;
};

}  // namespace ps
