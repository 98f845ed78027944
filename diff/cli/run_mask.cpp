#include "diff/cli/run_mask.h"

#include <algorithm>
#include <memory>

#include "diff/mask/source.h"

namespace ps::cli {

namespace {

using mask::Mask;
using mask::Program;

Result<Mask> mask_of_step(const Program& program, std::int64_t prefix, std::int64_t length,
                          std::int64_t past, const std::string& where) {
  Program p = program;
  p.dims.Q = length;
  p.dims.KV = prefix + past + length;
  p.q_offset = {past};
  PS_TRY_VOID(mask::validate(p, where));
  return mask::evaluate(p);
}

}  // namespace

Result<void> use_mask(const std::string& word, const ModelConfig& config, RunPlan& plan) {
  const StepInputs& prompt = plan.prompt;
  const std::int64_t prefix = config.prefix_tokens;
  PS_TRY(mask::Source source, mask::open_source(word, mask::Dims{prompt.batch, 1, prompt.length,
                                                                 prefix + prompt.length}));
  if (!source.program) return bad_input(word, "no mask program", "a program or an expression");
  Program& p = *source.program;
  if (p.dims.B != 1 && p.dims.B != prompt.batch) {
    return bad_input(word, "the mask has another batch", "1 or " + std::to_string(prompt.batch),
                     std::to_string(p.dims.B));
  }
  if (mask::varies(p, p.expr).h) {
    return bad_input(word, "the heads differ", "one mask for all heads of a row");
  }
  const std::int64_t chunk = plan.chunk > 0 ? plan.chunk : prompt.length;
  const std::int64_t total = prompt.length + plan.decode_steps;
  for (std::int64_t past = 0; past < total;) {
    const std::int64_t length = past < prompt.length ? std::min(chunk, prompt.length - past) : 1;
    PS_TRY(const Mask tried, mask_of_step(p, prefix, length, past, word));
    past += length;
  }
  const auto program = std::make_shared<const Program>(std::move(p));
  plan.visible = [program, prefix, word, samples = prompt.batch](
                     std::int64_t rows, std::int64_t length, std::int64_t past) {
    const auto mask = mask_of_step(*program, prefix, length, past, word);
    PS_CHECK(mask.ok(), "a step that was tried");
    const std::int64_t columns = prefix + past + length, beams = rows / samples;
    std::vector<std::int64_t> out(static_cast<std::size_t>(rows * length * columns));
    std::int64_t at = 0;
    for (std::int64_t row = 0; row < rows; ++row) {
      const std::int64_t b = program->dims.B == 1 ? 0 : row / beams;
      for (std::int64_t i = 0; i < length; ++i, at += columns) {
        for (const auto& [lo, hi] : mask->plane(b, 0).row(i)) {
          std::fill(out.begin() + at + lo, out.begin() + at + hi, 1);
        }
      }
    }
    return out;
  };
  return {};
}

}  // namespace ps::cli
