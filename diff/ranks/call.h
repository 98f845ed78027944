// What rank 0 asks the other ranks to do, as bytes and back.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/engine.h"

namespace ps {

enum class CallOp : std::int64_t { kForward = 1, kReorder, kReset, kGenerate, kDismiss };

struct Call {
  CallOp op = CallOp::kReset;
  StepInputs inputs;                       // kForward, kGenerate
  std::vector<std::int64_t> beam_idx;      // kReorder
  std::int64_t beams = 1, new_tokens = 0;  // kGenerate
  std::string wanted;                      // points that rank 0 wants to see, one a line
};

std::string packed(const Call& call);
Result<Call> unpacked_call(const std::string& bytes);

}  // namespace ps
