#include "diff/cli/run_mask.h"

#include <algorithm>
#include <memory>

#include "diff/mask/source.h"
#include "diff/mask/step_mask.h"

namespace ps::cli {

namespace {

using mask::StepSize;

Result<std::vector<std::int64_t>> visible_of_step(const mask::Program& program, StepSize size,
                                                  std::int64_t heads, const std::string& where) {
  PS_TRY(mask::StepMask step, mask::mask_of_step(program, size, where));
  if (step.heads == heads) return std::move(step.visible);
  // Heads that are alike in this step, and not in another.
  const std::size_t plane = static_cast<std::size_t>(size.length * size.columns());
  std::vector<std::int64_t> out;
  for (auto from = step.visible.begin(); from != step.visible.end();
       from += static_cast<std::ptrdiff_t>(plane)) {
    for (std::int64_t h = 0; h < heads; ++h) {
      out.insert(out.end(), from, from + static_cast<std::ptrdiff_t>(plane));
    }
  }
  return out;
}

}  // namespace

Result<void> use_mask(const std::string& word, const ModelConfig& config, std::int64_t tp,
                      RunPlan& plan) {
  const StepInputs& prompt = plan.prompt;
  StepSize size{prompt.batch, config.heads, prompt.length, 0, config.prefix_tokens};
  PS_TRY(mask::Source source,
         mask::open_source(word, mask::Dims{size.batch, size.heads, size.length, size.columns()}));
  if (!source.program) return bad_input(word, "no mask program", "a program or an expression");
  const auto program = std::make_shared<const mask::Program>(*std::move(source.program));
  plan.visible_heads = mask::varies(*program, program->expr).h ? config.heads : 1;
  if (plan.visible_heads > 1 && tp > 1 && config.heads / tp < 2) {
    return bad_input("--tp",
                     "one head a rank: its mask could not be told from one that ranks disagree on",
                     "at most " + std::to_string(config.heads / 2), std::to_string(tp));
  }
  const std::int64_t chunk = plan.chunk > 0 ? plan.chunk : prompt.length;
  const std::int64_t total = prompt.length + plan.decode_steps;
  const std::int64_t heads = plan.visible_heads;
  for (std::int64_t past = 0; past < total; past += size.length) {
    size.past = past;
    size.length = past < prompt.length ? std::min(chunk, prompt.length - past) : 1;
    PS_TRY(const auto tried, visible_of_step(*program, size, heads, word));
  }
  plan.visible = [=](std::int64_t rows, std::int64_t length, std::int64_t past) {
    const auto visible = visible_of_step(
        *program, {rows, config.heads, length, past, config.prefix_tokens}, heads, word);
    PS_CHECK(visible.ok(), "a step that was tried");
    return *visible;
  };
  return {};
}

}  // namespace ps::cli
