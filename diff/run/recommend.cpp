#include "diff/run/recommend.h"

#include <algorithm>

#include "diff/run/inputs.h"

namespace ps {

namespace {
// Whole numbers above 256 are not all bfloat16 numbers: positions there show tables made of them.
constexpr std::int64_t kBeyondBfloat16 = 257;
constexpr std::int64_t kLongest = 600;
}  // namespace

Recommended recommended_inputs(const ModelConfig& config, std::uint64_t seed) {
  Recommended out;
  std::int64_t length = 13;
  const auto say = [&](std::string words) { out.reasons.push_back(std::move(words)); };
  if (config.sliding_window > 0 && config.sliding_window + 5 > length) {
    length = std::min(config.sliding_window + 5, kLongest);
    say(config.sliding_window + 5 <= kLongest
            ? "more tokens than the window of " + std::to_string(config.sliding_window)
            : "the window of " + std::to_string(config.sliding_window) +
                  " is longer than a probe should be: its edge stays unseen");
  }
  RunPlan& plan = out.plan;
  plan.prompt = random_inputs(3, length, seed, config);
  say("three rows of unequal length, padded on the left: order of rows, padding, positions by row");
  const std::int64_t offset = kBeyondBfloat16 + 43;
  if (offset + length + 4 < config.max_position_embeddings && plan.prompt.attention_mask) {
    if (!plan.prompt.position_ids) {
      plan.prompt.position_ids = positions_of_mask(*plan.prompt.attention_mask, 3, length);
    }
    // The last row begins later than the others: its positions are large although it is short.
    for (std::int64_t i = 2 * length; i < 3 * length; ++i) {
      const auto at = static_cast<std::size_t>(i);
      if ((*plan.prompt.attention_mask)[at] != 0) (*plan.prompt.position_ids)[at] += offset;
    }
    say("positions above 256 in one row: rotary tables in a 16-bit type");
  }
  plan.chunk = length - 5;
  say("a prefill in two chunks: masks of several queries over a filled cache");
  plan.decode_steps = 2;
  say("two decode steps: positions, cache slots, stale inputs");
  plan.beams = 2;
  say("two beams: reordered caches");
  return out;
}

}  // namespace ps
