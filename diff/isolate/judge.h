// Judges the points of one step: each is compared with what its op gives when the reference runs it
// from the candidate's own inputs. What differs then is the op's own fault; what differs only from
// the reference's own run was inherited.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/config.h"
#include "core/engine.h"
#include "core/result.h"
#include "diff/compare/compare.h"
#include "diff/isolate/ignore.h"
#include "diff/report/report.h"

namespace ps {

struct JudgeOptions {
  DType run = DType::kF32;  // the candidate's type
  double lambda = 8.0;
  double bound_factor = 1.0;  // 2 where the reference computes in the candidate's own type
  bool own_run = true;        // compare with the reference's own run too
  std::int64_t rows = 0;      // of projections that are looked at without an own run; 0: all
  std::function<void(std::int64_t done, std::int64_t total)> progress;
};

// A wrong point while its step is at hand, for pictures and diagnosis.
struct JudgedPoint {
  const OpInfo& op;
  const TensorView& candidate;  // in the op's shape where it fits one
  const Replayed& expected;
  const Comparison* local;  // null: of another shape
  const std::optional<Tensor>& ignored;
  const PointLookup& lookup;
  const Rounding& rounding;
  double bound_factor = 1.0;
  ReferenceStep& reference;
  std::int64_t past = 0;
  std::string place;   // of the first wrong cell
  bool quiet = false;  // NaN is born in cells that nobody compares; wrong only if it spreads
};

// Bounds as they are compared with: no NaN, and never quite zero.
void clean_bounds(Replayed& exact, DType captured, double factor);

class StepJudge {
 public:
  StepJudge(const ModelConfig& config, ReferenceStep& reference, const StepInputs& inputs,
            std::int64_t step, std::int64_t past, const JudgeOptions& options);

  // The point whose op comes next in order. `lookup` gives the candidate's values of this step and,
  // as "past:POINT", of its cache before. A point that was not captured is passed over.
  Result<void> judge(const OpInfo& op, const PointLookup& lookup);

  // What is to be known of a point to go on from it, without judging it again. Only of a point that
  // is as it should be, or only inherits what is wrong: others are judged again.
  struct Note {
    bool plain = false;
    bool wrong = false;      // not to build on
    bool nonfinite = false;  // holds a NaN or infinity
    std::optional<bool> output_equal, replicas_differ;
  };
  const Note& note() const { return note_; }  // of the point last judged
  Result<void> take_over(const OpInfo& op, const PointRow& row, const Note& note);
  void use_own_run(bool use) { options_.own_run = use; }

  std::vector<PointRow>& rows() { return rows_; }
  const std::optional<FirstDivergence>& first() const { return first_; }
  const std::set<std::string>& wrong() const { return wrong_; }  // points not to build on
  void inherit(std::set<std::string> wrong_before) { wrong_before_ = std::move(wrong_before); }
  void on_divergence(std::function<void(const JudgedPoint&)> call) {
    divergence_ = std::move(call);
  }
  void on_right(std::function<void(const JudgedPoint&)> call) { right_ = std::move(call); }
  // The reference's own value of each point, as it comes by.
  void on_own(std::function<void(const std::string&, const Tensor&)> call) {
    own_ = std::move(call);
  }
  // Points in which a NaN or infinity was born where nobody compares; carried to the next step.
  // Outputs of the model (logits; else of the last layer) that differ from the reference's own run.
  struct Output {
    std::string point;
    bool equal = true;
  };
  const std::optional<Output>& output() const { return output_; }
  bool replicas_differ() const { return replicas_differ_; }  // or it was not captured whether
  void inherit_nonfinite(const StepJudge& before) {
    quiet_ = before.quiet_;
    nonfinite_ = before.nonfinite_;
  }
  bool spread() const { return spread_; }  // and it reached a cell that counts
  std::int64_t empty_rows() const { return ignore_.empty_rows(); }
  // Of how many tokens some were looked at, where a sample took a part of a projection's; else 0.
  std::int64_t sampled_tokens() const { return sampled_tokens_; }

 private:
  Result<Tensor> own_of(const std::string& point);
  PointRow base_row(const std::string& point, const TensorView& value) const;
  // By some rows alone: false where they do not settle it, because they are wrong or there is more
  // to know; then nothing is noted.
  bool judge_rows(const OpInfo& op, const TensorView& captured, const PointLookup& lookup,
                  const Rounding& rounding);
  bool inherits(const Replayed& exact) const;
  void judge_shape(const OpInfo& op, const TensorView& value, const Replayed& exact,
                   const PointLookup& lookup, const Rounding& rounding);
  void watch_nonfinite(const JudgedPoint& point, const Comparison* whole, PointRow& row);

  const ModelConfig& config_;
  ReferenceStep& reference_;
  StepInputs inputs_;
  std::int64_t step_, past_;
  JudgeOptions options_;
  IgnoreRules ignore_;
  std::vector<PointRow> rows_;
  std::optional<FirstDivergence> first_;
  std::set<std::string> wrong_, wrong_before_, nonfinite_;
  std::optional<FirstDivergence> quiet_;
  bool spread_ = false;
  std::optional<Output> output_;
  Note note_;
  bool replicas_differ_ = true;
  std::int64_t sampled_tokens_ = 0;
  std::function<void(const JudgedPoint&)> divergence_, right_;
  std::function<void(const std::string&, const Tensor&)> own_;
};

// What reorder_cache must give: row p*beams + b of each replica p from its row beam_idx[b].
Tensor rows_of_beams(const TensorView& cache, const std::vector<std::int64_t>& beam_idx,
                     std::int64_t replicas);
// The row of a value that is compared exactly and has no op of its own: a reordered cache.
PointRow judge_exactly(std::int64_t step, const std::string& point, const TensorView& value,
                       const TensorView& expected);

// A value with fewer cells than the reference's, where trace.md allows it: axes of size 1 are
// repeated (a mask of one row for all), and tables of B rows are repeated for each replica. Nothing
// when the shapes do not fit that way.
std::optional<Tensor> broadcast_to(const TensorView& value, const Shape& shape,
                                   bool rows_of_samples);
// The last token of [B,S,V], as [B,1,V]: what a trace has that keeps only the logits it needs.
Tensor last_token(const TensorView& value);

}  // namespace ps
