// Tensor-parallel ranks of any engine as one engine: each runs in a thread of its own, they meet in
// collectives that add up in rank order, and every point is joined before anybody sees it.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/finding.h"
#include "core/ranks.h"
#include "diff/shard/join.h"

namespace ps {

// Where all ranks of a run meet. The first error ends every later meeting, so that nobody waits
// for a rank that is gone.
class Meeting {
 public:
  explicit Meeting(std::int64_t ranks) : ranks_(ranks) {}
  // Waits for all ranks; the last one to come runs `work` before anybody goes on.
  Result<void> all(const std::function<Result<void>()>& work);
  void fail(const Error& error);
  void start();  // of a run: an earlier error is forgotten

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::int64_t ranks_, waiting_ = 0, round_ = 0;
  std::optional<Error> error_;
};

// What a rank deposits at a meeting for all to see.
struct Deposits {
  std::vector<Tensor*> values;
  Ledger entries;
};

class ThreadCollectives final : public Collectives {
 public:
  ThreadCollectives(std::int64_t rank, std::int64_t size, Meeting& meeting, Deposits& deposits)
      : rank_(rank), size_(size), meeting_(meeting), deposits_(deposits) {}
  std::int64_t rank() const override { return rank_; }
  std::int64_t size() const override { return size_; }
  Result<void> all_reduce(Tensor& value, const std::string& tag) override;
  const Ledger& ledger() const override { return ledger_; }

 private:
  Result<void> all_agree() const;  // that the deposits are of one collective

  std::int64_t rank_, size_;
  Meeting& meeting_;
  Deposits& deposits_;
  Ledger ledger_;
};

// Engines of all ranks, each in a thread of its own, with the collectives that they meet in.
class RankCrew {
 public:
  // Opens rank r on its config and its part of the checkpoint.
  using Open = std::function<Result<std::unique_ptr<Engine>>(const Model& local, Collectives&)>;
  static Result<std::unique_ptr<RankCrew>> open(const Model& model, std::int64_t tp,
                                                const Open& open);

  std::size_t size() const { return ranks_.size(); }
  Engine& rank(std::size_t r) { return *ranks_[r]; }
  const Ledger& ledger(std::size_t r) const { return collectives_[r]->ledger(); }
  Meeting& meeting() { return meeting_; }
  // A step's inputs as rank r takes them.
  StepInputs inputs(const StepInputs& whole, std::size_t r) const;
  // The same call on every rank at once; the first error of any rank.
  Result<void> on_all(const std::function<Result<void>(std::size_t r, Engine&)>& call);

 private:
  explicit RankCrew(std::int64_t tp);
  Meeting meeting_;
  Deposits deposits_;
  ModelConfig config_;  // of the whole model
  std::vector<std::unique_ptr<ThreadCollectives>> collectives_;
  std::vector<std::unique_ptr<Engine>> ranks_;
};

// The crew with a tap for each rank, whose values stay apart: what writes a trace of ranks.
class ThreadRanks final : public Ranks {
 public:
  explicit ThreadRanks(std::unique_ptr<RankCrew> crew);
  Result<void> forward(const StepInputs& inputs, const std::vector<Tap*>& taps) override;
  Result<void> reorder_cache(const std::vector<std::int64_t>& beam_idx,
                             const std::vector<Tap*>& taps) override;
  void reset() override;
  std::int64_t past() const override { return crew_->rank(0).past(); }
  Ledger ledger(std::int64_t rank) const override;

 private:
  using Call = std::function<Result<void>(std::size_t r, Engine&, Tap&)>;
  Result<void> on_all(const Call& call, const std::vector<Tap*>& taps);
  std::unique_ptr<RankCrew> crew_;
  std::vector<std::size_t> before_;  // entries of each ledger before the last step
};

// Puts a point together and hands it on; adds a TP012 where ranks hold different things.
struct PointJoiner {
  ModelConfig config;
  RankShare share;
  std::vector<Finding> findings;
  Result<void> hand_out(const std::string& point, const std::vector<TensorView>& parts,
                        std::int64_t step, Tap& tap);
};

class RankEngine final : public Engine {
 public:
  using Open = RankCrew::Open;
  static Result<std::unique_ptr<RankEngine>> open(const Model& model, std::int64_t tp,
                                                  const Open& open);
  ~RankEngine() override;

  Result<void> forward(const StepInputs& inputs, Tap& tap) override;
  Result<void> reorder_cache(const std::vector<std::int64_t>& beam_idx, Tap& tap) override;
  void reset() override;
  std::int64_t past() const override { return crew_->rank(0).past(); }
  Result<Generated> generate(const StepInputs& prompt, std::int64_t beams,
                             std::int64_t new_tokens) override;

  // TP012: values that ranks should have in common and did not.
  const std::vector<Finding>& findings() const { return joiner_.findings; }

 private:
  class RankTap;
  struct Waiting;  // what the ranks' taps have in common during a call
  RankEngine(PointJoiner joiner, std::unique_ptr<RankCrew> crew);
  using Call = std::function<Result<void>(std::size_t r, Engine&, Tap&)>;
  Result<void> on_all(const Call& call, Tap& tap);
  Result<void> hand_out(Waiting& waiting);

  PointJoiner joiner_;
  std::unique_ptr<RankCrew> crew_;
  std::int64_t steps_ = 0;
};

// An Error with the code of the first rule that this many ranks break (REJ_HEADS, ...).
Result<void> legal_ranks(const ModelConfig& config, std::int64_t tp);

// A rank's share of a model: its config, and a checkpoint of its shards. Rows are views of the
// whole checkpoint's memory; columns, which lie apart, are copied.
Result<Model> rank_share_of(const Model& model, std::int64_t tp, std::int64_t rank);

// a + b in the type that both have, rounded once.
void add_into(Tensor& a, const TensorView& b);

}  // namespace ps
