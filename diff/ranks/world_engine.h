// The candidate on real ranks. Rank 0 has them all as one engine whose points are joined, as the
// simulated ones are; the others do what it says until it has no more to say.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "diff/ranks/world.h"
#include "diff/shard/rank_engine.h"

namespace ps {

struct Call;

class WorldEngine final : public Engine {
 public:
  // Rank 0's. `own` is its rank of the model; both outlive the engine.
  WorldEngine(World& world, Engine& own, PointJoiner joiner);

  Result<void> forward(const StepInputs& inputs, Tap& tap) override;
  Result<void> reorder_cache(const std::vector<std::int64_t>& beam_idx, Tap& tap) override;
  void reset() override;
  std::int64_t past() const override { return own_.past(); }
  Result<Generated> generate(const StepInputs& prompt, std::int64_t beams,
                             std::int64_t new_tokens) override;
  // The other ranks' serve() returns.
  Result<void> dismiss();
  const std::vector<Finding>& findings() const { return joiner_.findings; }

 private:
  std::string wanted(Tap& tap) const;
  // Tells the other ranks, runs rank 0's part and joins the points of all.
  Result<void> step(Call call, Tap& tap, const std::function<Result<void>(Tap&)>& own_part);

  World& world_;
  Engine& own_;
  PointJoiner joiner_;
  std::int64_t steps_ = 0;
};

// Ranks above 0: does what rank 0's engine is asked to do, until dismissed.
Result<void> serve(World& world, Engine& own, const ModelConfig& whole);

}  // namespace ps
