// Any text is a config or an error; of a config without broken rules the sizes make sense, and its
// weights can be counted.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/checkpoint.h"
#include "core/config.h"
#include "tests/fuzz/require.h"

namespace {

void require_sound(const ps::ModelConfig& c) {
  using ps::require;
  require(c.vocab_size > 0 && c.hidden_size > 0 && c.intermediate_size > 0 && c.layers > 0);
  require(c.heads > 0 && c.kv_heads > 0 && c.heads % c.kv_heads == 0);
  require(c.head_dim > 0 && c.head_dim % 2 == 0 && c.max_position_embeddings > 0);
  require(c.rms_norm_eps > 0 && std::isfinite(c.rms_norm_eps));
  require(c.rope.theta > 0 && std::isfinite(c.rope.theta) && c.rope.factor > 0);
  require(c.replicas >= 1 && c.prefix_tokens >= 0 && c.attn_smooth >= 0 && c.attn_smooth <= 1);
  const auto layers = static_cast<std::size_t>(c.layers);
  require(c.sliding_layer.size() == layers && c.cross_layer.size() == layers &&
          c.cross_kv_layer.size() == layers);
  bool slides = false;
  for (const bool layer : c.sliding_layer) slides = slides || layer;
  require(slides == (c.sliding_window > 0));
  constexpr std::int64_t kQuick = 40;
  if (c.layers > kQuick) return;
  for (const ps::WeightSpec& spec : ps::expected_weights(c)) {
    std::int64_t bytes = 8;
    for (const std::int64_t d : spec.shape) {
      require(d >= 0 && !__builtin_mul_overflow(bytes, d, &bytes));
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ps;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  Result<ParsedConfig> parsed = parse_config(text, "fuzz");
  if (!parsed.ok()) {
    require_line(parsed.error());
    return 0;
  }
  bool errors = false;
  for (const ConfigIssue& issue : parsed->issues) {
    require(!issue.id.empty() && !issue.field.empty() && !issue.value.empty());
    require(!issue.rule.empty());
    errors = errors || issue.error;
  }
  const Result<ModelConfig> config = first_error_or_config(std::move(parsed).value(), "fuzz");
  require(config.ok() != errors);
  if (!config.ok()) {
    require_line(config.error());
    return 0;
  }
  require_sound(*config);
  return 0;
}
