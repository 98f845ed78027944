// The questions of a probe, one function each.
#pragma once

#include <array>
#include <optional>

#include "diff/sparse/probe.h"

namespace ps {

struct ProbeContext {
  const SparseCase& base;
  const MakeSparseEngine& make;
  SparseReference& reference;
  SparseFindings& findings;
};
using ProbeQuestion = Result<void> (*)(const ProbeContext&);

// What an engine is given as its mask: nothing where causality says it all.
Result<std::optional<Tensor>> mask_argument(const SparseCase& base);

Result<void> ask_larger_tau(const ProbeContext& c);        // SP012
Result<void> ask_later_tokens(const ProbeContext& c);      // SP013
Result<void> ask_batch_order(const ProbeContext& c);       // SP014
Result<void> ask_second_sequence(const ProbeContext& c);   // SP016
Result<void> ask_last_token_alone(const ProbeContext& c);  // SP017
Result<void> ask_constant_keys(const ProbeContext& c);     // SP018
Result<void> ask_mask_forms(const ProbeContext& c);        // SP023
Result<void> ask_one_hot(const ProbeContext& c);           // SP008, SP010, SP011, SP024
Result<void> ask_late_queries(const ProbeContext& c);      // Nq < Nk: SP001 - SP008, SP011, SP016

inline constexpr std::array<ProbeQuestion, 9> kProbeQuestions = {
    ask_larger_tau,    ask_later_tokens, ask_batch_order, ask_second_sequence, ask_last_token_alone,
    ask_constant_keys, ask_mask_forms,   ask_one_hot,     ask_late_queries};

}  // namespace ps
