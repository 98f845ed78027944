// The candidate's values of one step, kept for as long as an op that was not judged yet may read
// them: each point is judged as soon as the op before it has been.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/engine.h"
#include "diff/isolate/judge.h"
#include "diff/isolate/lockstep.h"
#include "diff/isolate/replica_votes.h"

namespace ps {

bool is_cache_point(std::string_view point);

// The two values of a step that votes are counted from, of one side.
class Votes {
 public:
  explicit Votes(bool wanted) : wanted_(wanted) {}
  void keep(std::string_view point, const TensorView& value);
  bool complete() const { return !norm_.shape().empty() && !weights_.shape().empty(); }
  ReplicaOutputs outputs() const { return {norm_.view(), weights_.view()}; }

 private:
  bool wanted_;
  Tensor norm_, weights_;
};

// One step of a lockstep, for whoever works on it.
struct LockstepStep {
  StepJudge& judge;
  ReferenceStep& truth;
  const std::map<std::string, Tensor>& past;  // the candidate's caches of the step before
  const LockstepOptions& options;
  PowerMeter& power;
  const bool& measured;  // whether power still is
  std::int64_t step = 0, steps = 0, past_tokens = 0;
  std::int64_t own_from = 0;   // ops before it are not asked of the reference's own run
  bool keeps_own_run = false;  // it may be put down after a layer
};

class Window final : public Tap {
 public:
  explicit Window(const LockstepStep& step);

  bool wants(std::string_view point) override;
  void take(std::string_view point, const TensorView& value) override;
  void finish();

  Result<void> status;
  Tensor logits;
  std::map<std::string, Tensor> caches;  // of this step
  Votes votes;
  std::vector<std::string> left_out;  // points that the sample does not judge

 private:
  void note_readers(std::size_t reader, const OpInfo& op);
  void judge_what_is_ready(bool all);
  Result<void> judge(const OpInfo& op, const PointLookup& lookup);
  void keep_own_run(const OpInfo& op);
  void forget(std::size_t judged);

  LockstepStep at_;
  const std::vector<OpInfo>& ops_;
  std::map<std::string, std::size_t> index_, last_reader_;
  std::map<std::string, Tensor> values_;
  std::size_t next_ = 0;
  bool stopped_ = false;
};

}  // namespace ps
