// What a run could have shown: every fault that this model could have is replayed on the run's own
// values, and those that change nothing beyond rounding are its blind spots.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/fault.h"
#include "diff/isolate/judge.h"
#include "diff/report/report.h"

namespace ps {

// What watching one point told: enough to go on from without watching it again.
struct PowerNews {
  std::string place;              // the point without its layer, and kind of step
  std::vector<std::string> seen;  // faults that it was the first to show
  double seconds = 0;             // spent in all
  bool exhausted = false;
};

class PowerMeter {
 public:
  // The faults that the model could have, and its sizes: matrices of a large model are widened for
  // each replay, so its linear maps are not tried.
  PowerMeter(std::vector<FaultInfo> applicable, const ModelConfig& config);

  // A point that is right, while its step is at hand.
  void watch(const JudgedPoint& point);
  const PowerNews& news() const { return news_; }  // of the point last watched
  void forget_news() { news_ = {}; }
  void take_over(const PowerNews& news);  // as if it had been watched here
  // A point that a sample leaves out: a fault that is seen at such places could as well sit here.
  void left_out(const OpInfo& op, std::int64_t past);
  void other_inputs() { looked_.clear(); }  // what follows is another run of the same model
  void reordered() { reordered_ = true; }   // a beam step with rows that moved

  std::vector<BlindSpot> blind_spots() const;
  // Share of the applicable faults that would have shown. One that is seen at places of which a
  // sample judged only some counts by the share of those.
  double power() const;

 private:
  struct Places {
    std::int64_t judged = 0, left_out = 0;
    double share() const {
      return judged == 0 ? 0.0
                         : static_cast<double>(judged) / static_cast<double>(judged + left_out);
    }
  };
  bool seen_by_kind(const std::string& id, const JudgedPoint& point) const;
  void look(const JudgedPoint& point);

  std::vector<FaultInfo> faults_;
  std::set<std::string> unseen_;
  std::map<std::string, std::string> seen_at_;  // fault, and the place that showed it first
  std::map<std::string, Places> places_;
  PowerNews news_;
  std::map<std::string, int> looked_;  // point without its layer, and kind of step: how often
  bool large_ = false;
  bool reordered_ = false;
  double seconds_ = 0;
  bool exhausted_ = false;
};

}  // namespace ps
