// Masks that a run is given from outside: `--mask`, and what a trace brings along (docs/masks.md).
// They become StepInputs::visible of each step.
#pragma once

#include <string>

#include "core/config.h"
#include "core/trace.h"
#include "diff/mask/program.h"

namespace ps::mask {

struct StepSize {
  std::int64_t batch = 1, heads = 1;
  std::int64_t length = 0, past = 0, prefix = 0;
  std::int64_t columns() const { return prefix + past + length; }
};

// The mask of a step: [batch, heads, length, columns], 1 = may attend; one head where all are
// alike.
struct StepMask {
  std::int64_t heads = 1;
  std::vector<std::int64_t> visible;
};

// The program evaluated for this step: Q, KV and q_offset become the step's. Its B is 1, or divides
// the batch (beams of a sample stand together); its H is 1, or that of the model.
Result<StepMask> mask_of_step(const Program& program, const StepSize& size,
                              const std::string& where);

// What a trace's step says about its mask, if anything: its tensor `input_mask` (or an
// `attention_mask` of four axes), or else a program or expression under the key `mask_program` in
// the metadata of its file.
bool brings_mask(const TraceStep& step);
std::string mask_program_of(const TraceStep& step);  // "" where there is none
// step_inputs, with that mask in `visible`.
Result<StepInputs> step_inputs_with_mask(const TraceStep& step, const ModelConfig& config,
                                         std::int64_t past);

}  // namespace ps::mask
