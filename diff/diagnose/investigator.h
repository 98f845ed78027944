// From a wrong point to the name of its cause: every fault that touches the op is replayed by the
// reference on the candidate's own values, and named only when it explains them down to rounding.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/config.h"
#include "core/fault.h"
#include "core/finding.h"
#include "diff/isolate/judge.h"

namespace ps {

struct InvestigatorOptions {
  double seconds_a_point = 30;
  int searches = 12;  // full searches in a run; later points are only tried with causes found
  int unnamed = 3;    // findings without a name
};

// One way in which a fault explains a point, or how near it comes.
struct Explanation {
  std::string id, fault_class, message, fix, variant;
  std::vector<std::pair<std::string, std::string>> parameters;
  int frequency = 0, freedom = 0;
  bool late = false, signature = false;
  double ratio = 0, rel_l2 = 0;  // of what is left
  bool explains = false;
};

class Investigator {
 public:
  Investigator(const ModelConfig& config, const InvestigatorOptions& options)
      : config_(config), options_(options) {}

  // A wrong point, or a quiet birth of NaN, while its step is at hand.
  void look(std::int64_t step, const JudgedPoint& point);
  // The cache was reordered before this step: what it held before that, for steps that skipped it.
  void unordered_past(std::optional<PointLookup> lookup) { unordered_ = std::move(lookup); }
  // A finding that was made elsewhere (a reordered cache).
  void add(Finding finding) { findings_.push_back(std::move(finding)); }

  // The cause of the first divergence first. `spread`: a quiet NaN reached cells that count.
  std::vector<Finding> findings(const std::optional<FirstDivergence>& first, bool spread) const;

 private:
  std::vector<Explanation> search(const JudgedPoint& point, const SuspectOptions& how) const;
  bool explained_by_skipped_reorder(const JudgedPoint& point) const;
  Finding named(std::int64_t step, const JudgedPoint& point,
                const std::vector<Explanation>& all) const;
  void name_by_others(std::vector<Finding>& findings) const;
  Finding unnamed(std::int64_t step, const JudgedPoint& point,
                  const std::vector<Explanation>& near) const;

  const ModelConfig& config_;
  InvestigatorOptions options_;
  std::optional<PointLookup> unordered_;
  std::vector<Finding> findings_;
  std::vector<std::vector<std::string>> also_;  // other points of findings_[i]
  struct Near {
    double error = 0;  // relative, of the right op
    std::vector<Explanation> tried;
  };
  std::map<std::pair<std::int64_t, std::string>, Near> near_;  // of findings without a name
  std::optional<Finding> quiet_;
  std::set<std::string> causes_;
  std::set<std::int64_t> wrong_steps_;
  int searches_ = 0, unnamed_ = 0;
};

// Explanations in the order in which to believe them: exact ones that are as near as any, those
// that only this kind of step can have first, then by how often people hit them.
std::vector<Explanation> ranked(std::vector<Explanation> all, bool late_step);

}  // namespace ps
