// What is known of every fault, for people: `parscope faults`, --explain. The reference has a list
// of its own (reference/faults), with the code that replays them; it cannot be asked without
// LibTorch, so this one stands beside it and tests/known_faults_test.cpp holds the two together.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace ps {

enum class FaultSearch : std::uint8_t {
  kReplayed,       // the reference does the op wrong in this way and compares
  kLint,           // seen in files, without running anything
  kRunLevel,       // seen by comparing runs, steps or ranks
  kNotApplicable,  // `note` says why
};
std::string_view to_string(FaultSearch how);

struct KnownFault {
  std::string_view id, fault_class;
  int frequency = 1;  // 5 = hit most often
  FaultSearch how = FaultSearch::kReplayed;
  std::string_view first_point, wrong, shows, separates, blind, fix, note;
};

std::span<const KnownFault> known_faults();
const KnownFault* find_known_fault(std::string_view id);  // null: not a known id

}  // namespace ps
