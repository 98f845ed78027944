// Runs ranks through a plan and writes a trace with a file a step and rank. A run that ends early
// leaves files under names that no reader takes for a trace.
#pragma once

#include <filesystem>
#include <memory>

#include "core/ledger.h"
#include "core/ranks.h"
#include "diff/run/record.h"

namespace ps {

// The manifest's "shards": which points are cut on which axis.
std::vector<ShardSpec> point_shards();

// Writes what one rank does, step by step, into files that publish_ranks() gives their names.
class RankScribe final : public Tap {
 public:
  // The script needs somebody's logits.
  RankScribe(const std::filesystem::path& dir, std::int64_t rank, const RecordOptions& options,
             bool keeps_logits);

  Result<void> begin(TraceStep step, const StepInputs* inputs, std::int64_t visible_heads);
  Result<void> end(Ledger collectives);
  bool wants(std::string_view point) override;
  void take(std::string_view point, const TensorView& value) override;

  const std::vector<TraceStep>& steps() const { return steps_; }
  const std::vector<StepLedger>& ledgers() const { return ledgers_; }
  const Recorded& counted() const { return counted_; }
  std::optional<TensorView> logits() const;

 private:
  std::filesystem::path dir_;
  std::int64_t rank_;
  const RecordOptions& options_;
  bool keeps_logits_;
  std::optional<SafetensorsWriter> writer_;
  Result<void> status_;
  Recorded counted_;
  Tensor logits_;
  std::vector<TraceStep> steps_;
  std::vector<StepLedger> ledgers_;
};

// What ranks wrote, all together.
struct RankParts {
  std::vector<TraceStep> steps;
  std::vector<StepLedger> ledgers;
  bool masks_by_head = false;  // then they are cut as the heads are
};

// trace.json, and then the steps' files under their own names: whatever is missing when this is cut
// off, no reader takes for a trace.
Result<void> publish_ranks(const std::filesystem::path& dir, TraceManifest manifest,
                           RankParts parts, std::int64_t tp);

Result<Recorded> record_ranks(Ranks& ranks, std::int64_t tp, const RunPlan& plan,
                              const std::filesystem::path& dir, TraceManifest manifest,
                              const RecordOptions& options);

}  // namespace ps
