// Faults: an op done wrong on purpose. The reference replays them (reference/faults); whoever
// diagnoses sees them only as ids, words and what they would have given.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/tensor.h"

namespace ps {

struct Replayed;  // core/engine.h

struct FaultInfo {
  std::string_view id;           // of faults.json
  std::string_view fault_class;  // "rope"
  int frequency = 1;             // 5 = hit most often
  std::string_view message;      // what is wrong, one sentence without its full stop
  std::string_view fix;
  std::string_view blind;  // which inputs or models it takes to show it
  bool late = false;       // only steps with tokens in the cache can have it
};

// One way in which a fault may have been done, and what it gives.
struct Suspect {
  FaultInfo fault;
  std::string variant;                                          // "keys only"; may be empty
  std::vector<std::pair<std::string, std::string>> parameters;  // name, JSON text
  int freedom = 0;         // numbers that were solved for from the candidate itself
  bool signature = false;  // it fits a pattern, but cannot be replayed from what is known
  const Replayed* replayed = nullptr;
};

struct SuspectOptions {
  std::vector<std::string> only;  // ids; empty: all
  bool solve = true;              // false: usual parameters only, nothing is fitted
  bool near_only = true;          // leave out what is no nearer to the candidate than the right op
  double seconds = 60;            // stop proposing after that
  std::optional<TensorView> ignored;  // 1 = the cell does not count; each axis its size or 1
};

// Called for each suspect; false = enough.
using SuspectCall = std::function<bool(const Suspect&)>;

}  // namespace ps
