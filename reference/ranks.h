// Tensor-parallel ranks, simulated: each rank has a net of its own sizes; they run op by op side by
// side, and the row-parallel ones are summed before anybody goes on.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/ranks.h"
#include "reference/engine.h"

namespace ps::reference {

class SimulatedRanks final : public Ranks {
 public:
  SimulatedRanks(const RankModel& model, const ReferenceOptions& options);

  Result<void> forward(const StepInputs& inputs, const std::vector<Tap*>& taps) override;
  Result<void> reorder_cache(const std::vector<std::int64_t>& beam_idx,
                             const std::vector<Tap*>& taps) override;
  void reset() override;
  std::int64_t past() const override { return past_; }
  Ledger ledger(std::int64_t) const override { return ledger_; }  // one thread issues for all

 private:
  struct Rank {
    Net net;
    std::map<std::string, at::Tensor> points;
    std::map<std::string, int> readers_left;
    Cache next_cache;
  };
  Rank make_rank(const StepInputs& inputs, std::int64_t r) const;
  Result<at::Tensor> compute(const Op& op, Rank& rank, std::int64_t r);
  // The op's value on every rank, and what they make of it together.
  void combine(const std::string& point, std::vector<at::Tensor>& values,
               const std::vector<Tap*>& taps);
  Result<void> run(const StepInputs& inputs, const std::vector<Tap*>& taps);

  RankModel model_;
  ReferenceOptions options_;
  Types types_;
  std::vector<Cache> caches_;  // by rank
  Ledger ledger_;
  std::int64_t past_ = 0;
  std::int64_t batch_ = 0;
};

}  // namespace ps::reference
