#include "core/late_start.h"

#include <algorithm>

namespace ps {

namespace {

// Nothing below zero is a length.
std::optional<std::int64_t> length(std::int64_t n) {
  return n < 0 ? std::nullopt : std::optional(n);
}

std::optional<std::int64_t> said_by_caches(const TraceStep& step, const ModelConfig& config,
                                           const Shape& ids) {
  for (std::int64_t i = 0; i < config.layers; ++i) {
    if (config.cross_kv_layer[static_cast<std::size_t>(i)]) continue;  // has no prefix
    const std::string name = "model.layers." + std::to_string(i) + ".self_attn:k_cache";
    const TensorView* cache = step.tensors->find(name);
    if (cache == nullptr || cache->shape.size() != 4) continue;
    if (cache->shape[0] != config.replicas * ids[0]) continue;
    return length(cache->shape[2] - config.prefix_tokens - ids[1]);
  }
  return std::nullopt;
}

// Of the row with the least padding.
std::optional<std::int64_t> said_by_positions(const TraceStep& step, const Shape& ids) {
  const TensorView* positions = step.tensors->find("position_ids");
  if (positions == nullptr || positions->shape != ids) return std::nullopt;
  double last = 0;
  for (std::int64_t i = 0; i < positions->count(); ++i) {
    last = std::max(last, value_at(*positions, i));
  }
  return length(static_cast<std::int64_t>(last) + 1 - ids[1]);
}

}  // namespace

std::optional<std::int64_t> past_said_by(const TraceStep& step, const ModelConfig& config,
                                         bool doubt) {
  const TensorView* ids = step.tensors->find("input_ids");
  if (ids == nullptr || ids->shape.size() != 2) return std::nullopt;
  std::optional<std::int64_t> mask;
  if (const TensorView* given = step.tensors->find("attention_mask");
      given != nullptr && given->shape.size() == 2) {
    mask = length(given->shape[1] - ids->shape[1]);
  }
  const auto caches = said_by_caches(step, config, ids->shape);
  const auto positions = said_by_positions(step, ids->shape);
  if (!doubt) return mask ? mask : caches ? caches : positions;
  const auto agree = [](const auto& a, const auto& b) { return a && b && *a == *b; };
  if (agree(mask, caches) || agree(mask, positions)) return mask;
  if (mask || !caches || (positions && *positions != *caches)) return std::nullopt;
  constexpr std::int64_t kMany = 4;
  return positions || (ids->shape[1] == 1 && *caches >= kMany) ? caches : std::nullopt;
}

}  // namespace ps
