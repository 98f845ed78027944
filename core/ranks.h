// Tensor parallelism: one model as ranks that each hold a part of the weights, compute on it, and
// meet in collectives (spec tensor-parallel.md section 3). Which part is whose is the plan's
// business (diff/shard); here a rank is a smaller config and a way to get its weights.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/collective.h"
#include "core/engine.h"

namespace ps {

struct RankModel {
  ModelConfig whole;
  ModelConfig local;  // a rank's heads and inner features; hidden size and vocabulary are whole's
  std::int64_t tp = 1;
  std::int64_t vocab_rows = 0;   // of embedding and head on a rank, padding included
  bool replicate_vocab = false;  // embedding and head whole on every rank: no collective there
  // A rank's part of a tensor, under the checkpoint's name for the whole. Asked for at each use, so
  // that nothing but the mapped checkpoint has to be in memory.
  std::function<Result<Tensor>(std::int64_t rank, const std::string& name)> weight;
};

// What rank `rank` of `tp` is given: a mask of all heads (visible) is cut to its own; else the
// same.
StepInputs inputs_of_rank(const StepInputs& inputs, const ModelConfig& whole, std::int64_t past,
                          std::int64_t tp, std::int64_t rank);

// How a rank meets the others. An error is final: the rank that fails says so, and the others' next
// call returns it.
class Collectives {
 public:
  virtual ~Collectives() = default;
  virtual std::int64_t rank() const = 0;
  virtual std::int64_t size() const = 0;
  // Sum over the ranks, the same on each; `tag` must be, too.
  virtual Result<void> all_reduce(Tensor& value, const std::string& tag) = 0;
  virtual const Ledger& ledger() const = 0;  // since the engine was opened
};

// Ranks in processes of their own, whose devices may add up values by themselves.
class ProcessCollectives : public Collectives {
 public:
  // Enters what this rank is about to do into the ledger, and compares it with what the others are
  // about to do: an Error names the rank that would have left them waiting. all_reduce does so
  // itself; this is for values that move between devices.
  virtual Result<void> announce(const Collective& entry) = 0;
  virtual Result<void> share(std::string& bytes) = 0;  // rank 0's go to everybody
};

class Ranks {
 public:
  virtual ~Ranks() = default;
  // taps[r] sees rank r's values: its own part of sharded points, NAME:partial before a reduce and
  // NAME after it, all logits without padding.
  virtual Result<void> forward(const StepInputs& inputs, const std::vector<Tap*>& taps) = 0;
  // As Engine::reorder_cache, on every rank.
  virtual Result<void> reorder_cache(const std::vector<std::int64_t>& beam_idx,
                                     const std::vector<Tap*>& taps) = 0;
  virtual void reset() = 0;
  virtual std::int64_t past() const = 0;
  virtual Ledger ledger(std::int64_t rank) const = 0;  // of the last step
};

// All ranks in this process, op by op, by the reference: deterministic, sums in rank order.
Result<std::unique_ptr<Ranks>> open_simulated_ranks(const RankModel& model,
                                                    const ReferenceOptions& options);

}  // namespace ps
