#include "diff/diagnose/known_faults.h"

#include <algorithm>

namespace ps {

namespace {

using enum FaultSearch;

constexpr KnownFault kFaults[] = {
#define PS_KNOWN_FAULT(id, fault_class, frequency, how, first, wrong, shows, separates, blind, \
                       fix, note)                                                              \
  {id, fault_class, frequency, how, first, wrong, shows, separates, blind, fix, note},
#include "diff/diagnose/known_faults.def"
#undef PS_KNOWN_FAULT
};

}  // namespace

std::string_view to_string(FaultSearch how) {
  switch (how) {
    case kReplayed:
      return "replayed";
    case kLint:
      return "lint";
    case kRunLevel:
      return "run-level check";
    case kNotApplicable:
      return "not applicable";
  }
  return "not applicable";
}

std::span<const KnownFault> known_faults() { return kFaults; }

const KnownFault* find_known_fault(std::string_view id) {
  const auto it =
      std::find_if(std::begin(kFaults), std::end(kFaults), [&](auto& f) { return f.id == id; });
  return it == std::end(kFaults) ? nullptr : &*it;
}

}  // namespace ps
