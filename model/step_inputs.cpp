#include "model/step_inputs.h"

#include <algorithm>

namespace ps {
namespace {

constexpr std::int64_t kLongestPosition = std::int64_t{1} << 29;  // sine_cosine's range

Result<void> check_size(const char* name, std::size_t found, std::int64_t rows, std::int64_t cols) {
  if (found == static_cast<std::size_t>(rows * cols)) return {};
  return bad_input(name, "wrong number of values", to_string(Shape{rows, cols}),
                   std::to_string(found));
}

// A query sees nothing when no slot of the prefix and no valid key at or before its place is there.
// Cross-KV layers have no prefix; as literally written they have no mask either.
std::int64_t count_empty(const PreparedInputs& in, const ModelConfig& config) {
  const auto& cross_kv = config.cross_kv_layer;
  const bool without_prefix =
      config.cross_kv_causal && std::find(cross_kv.begin(), cross_kv.end(), true) != cross_kv.end();
  if (config.prefix_tokens > 0 && !without_prefix) return 0;
  std::int64_t empty = 0;
  for (std::int64_t i = 0; i < in.batch; ++i) {
    std::int64_t first = in.keys;  // the first valid key
    for (std::int64_t key = in.keys - 1; key >= 0; --key) {
      if (in.key_valid[static_cast<std::size_t>(i * in.keys + key)] != 0) first = key;
    }
    empty += std::clamp<std::int64_t>(first - in.past, 0, in.tokens);
  }
  return empty * config.replicas;
}

// A mask from outside replaces all rules.
Result<void> take_visible(const std::vector<std::int64_t>& visible, const ModelConfig& config,
                          PreparedInputs& out) {
  const auto& cross_kv = config.cross_kv_layer;
  if (std::find(cross_kv.begin(), cross_kv.end(), true) != cross_kv.end()) {
    return bad_input("visible", "a model with cross-KV layers takes no mask from outside");
  }
  const std::int64_t cols = config.prefix_tokens + out.keys, rows = out.batch * out.tokens;
  const bool by_head = visible.size() == static_cast<std::size_t>(rows * config.heads * cols);
  const std::int64_t heads = by_head ? config.heads : 1;
  PS_TRY_VOID(check_size("visible", visible.size(), rows * heads, cols));
  out.visible.reserve(visible.size());
  for (const std::int64_t cell : visible) out.visible.push_back(cell != 0 ? 1 : 0);
  std::vector<bool> sees(static_cast<std::size_t>(rows));  // a key, with any head
  for (std::size_t i = 0; i < out.visible.size(); ++i) {
    const auto line = static_cast<std::int64_t>(i) / cols;
    const std::int64_t sample = line / out.tokens / heads;
    if (out.visible[i] != 0) {
      sees[static_cast<std::size_t>(sample * out.tokens + line % out.tokens)] = true;
    }
  }
  out.empty_rows = config.replicas * std::count(sees.begin(), sees.end(), false);
  return {};
}

}  // namespace

Result<PreparedInputs> prepare_inputs(const StepInputs& inputs, const ModelConfig& config,
                                      std::int64_t past, std::int64_t cached_batch) {
  PreparedInputs out{
      .batch = inputs.batch, .tokens = inputs.length, .past = past, .keys = past + inputs.length};
  if (inputs.batch < 1 || inputs.length < 1) {
    return bad_input("input_ids", "a step needs a sample and a token", "[>=1, >=1]",
                     to_string(Shape{inputs.batch, inputs.length}));
  }
  if (past > 0 && inputs.batch != cached_batch) {
    return bad_input("input_ids", "another batch than the cache has", std::to_string(cached_batch),
                     std::to_string(inputs.batch));
  }
  PS_TRY_VOID(check_size("input_ids", inputs.input_ids.size(), inputs.batch, inputs.length));
  for (const std::int64_t id : inputs.input_ids) {
    if (id < 0 || id >= config.vocab_size) {
      return bad_input("input_ids", "a token outside the vocabulary",
                       "0 .. " + std::to_string(config.vocab_size - 1), std::to_string(id));
    }
  }
  out.ids = inputs.input_ids;

  out.key_valid.assign(static_cast<std::size_t>(out.batch * out.keys), 1);
  if (inputs.attention_mask) {
    PS_TRY_VOID(check_size("attention_mask", inputs.attention_mask->size(), out.batch, out.keys));
    std::transform(inputs.attention_mask->begin(), inputs.attention_mask->end(),
                   out.key_valid.begin(),
                   [](std::int64_t real) { return static_cast<std::uint8_t>(real != 0 ? 1 : 0); });
  }
  if (inputs.position_ids) {
    PS_TRY_VOID(check_size("position_ids", inputs.position_ids->size(), out.batch, out.tokens));
    for (const std::int64_t position : *inputs.position_ids) {
      if (position < 0 || position > kLongestPosition) {
        return bad_input("position_ids", "a position out of range", "0 .. 2^29",
                         std::to_string(position));
      }
    }
    out.position_rows = config.replicas * out.batch;
    for (std::int64_t p = 0; p < config.replicas; ++p) {
      out.positions.insert(out.positions.end(), inputs.position_ids->begin(),
                           inputs.position_ids->end());
    }
  } else {
    for (std::int64_t t = 0; t < out.tokens; ++t) out.positions.push_back(past + t);
  }
  out.empty_rows = count_empty(out, config);
  if (inputs.visible) PS_TRY_VOID(take_visible(*inputs.visible, config, out));
  return out;
}

}  // namespace ps
