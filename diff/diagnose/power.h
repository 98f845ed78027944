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

class PowerMeter {
 public:
  // The faults that the model could have, and its sizes: matrices of a large model are widened for
  // each replay, so its linear maps are not tried.
  PowerMeter(std::vector<FaultInfo> applicable, const ModelConfig& config);

  // A point that is right, while its step is at hand.
  void watch(const JudgedPoint& point);
  void other_inputs() { looked_.clear(); }  // what follows is another run of the same model
  void reordered() { reordered_ = true; }   // a beam step with rows that moved

  std::vector<BlindSpot> blind_spots() const;
  double power() const;  // share of the applicable faults that would have shown

 private:
  bool seen_by_kind(const std::string& id, const JudgedPoint& point) const;

  std::vector<FaultInfo> faults_;
  std::set<std::string> unseen_;
  std::map<std::string, int> looked_;  // point without its layer, and kind of step: how often
  bool large_ = false;
  bool reordered_ = false;
  double seconds_ = 0;
  bool exhausted_ = false;
};

}  // namespace ps
