// What a config says about replicas, cross layers and sliding windows, and whether its sizes fit.
#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "core/config_fields.h"

namespace ps {

namespace {

// A fault of the catalogue: a prefix that nobody asked for, from a default that does not fit n = 1.
constexpr std::string_view kPrefixAtOneReplica = "runtime-wrong-default-config";

void read_layer_types(ConfigFields& fields, const Json& list, ModelConfig& config) {
  if (!list.is(Json::Kind::kArray)) {
    fields.error("layer_types", "must be a list, not " + std::string(to_string(list.kind)));
    return;
  }
  if (config.layers > 0 && static_cast<std::int64_t>(list.items.size()) != config.layers) {
    fields.error("layer_types", "must have num_hidden_layers (" + std::to_string(config.layers) +
                                    ") entries, not " + std::to_string(list.items.size()));
    return;
  }
  for (std::size_t i = 0; i < list.items.size(); ++i) {
    const Json& item = list.items[i];
    const bool sliding = item.is(Json::Kind::kString) && item.text == "sliding_attention";
    if (!sliding && (!item.is(Json::Kind::kString) || item.text != "full_attention")) {
      fields.error("layer_types", "entry " + std::to_string(i) + " is " + item.brief() +
                                      "; full_attention and sliding_attention are supported");
      return;
    }
    if (i < config.sliding_layer.size()) config.sliding_layer[i] = sliding;
  }
}

bool any(const std::vector<bool>& layers) {
  return std::find(layers.begin(), layers.end(), true) != layers.end();
}

// The layers of parscale_cross_attn_layers; null means all.
std::vector<bool> read_cross_layers(ConfigFields& fields, const ModelConfig& config) {
  constexpr std::string_view kField = "parscale_cross_attn_layers";
  const auto layers = static_cast<std::size_t>(config.layers);
  const Json* list = fields.find_set(kField);
  std::vector<bool> chosen(layers, list == nullptr);
  if (list == nullptr) return chosen;
  if (!list->is(Json::Kind::kArray)) {
    fields.error(kField, "must be a list or null, not " + std::string(to_string(list->kind)));
    return chosen;
  }
  for (const Json& item : list->items) {
    const bool truth = item.is(Json::Kind::kBool);  // Python counts True as 1; upstream takes it
    if (!truth && !item.is(Json::Kind::kInteger)) {
      fields.error(kField, "must hold layer numbers, not " + item.brief());
      return chosen;
    }
    const std::int64_t layer = truth ? static_cast<std::int64_t>(item.boolean) : item.integer;
    if (layer < 0 || layer >= config.layers) {
      fields.error(kField, "layer " + std::to_string(layer) + " is outside 0 to " +
                               std::to_string(config.layers - 1));
      return chosen;
    }
    chosen[static_cast<std::size_t>(layer)] = true;
  }
  return chosen;
}

void read_cross(ConfigFields& fields, ModelConfig& config) {
  const bool cross = fields.flag("enable_cross_attn");
  const bool xkv = fields.flag("enable_xkv_attn");
  const bool replica_rope = fields.flag("enable_replica_rope");
  if (cross && xkv) {
    fields.error("enable_xkv_attn", "excludes enable_cross_attn: only one of them may be true");
  }
  if (config.replicas == 1 && cross) {
    fields.error("enable_cross_attn", "needs parscale_n above 1");
  }
  if (config.replicas == 1 && replica_rope) {
    fields.error("enable_replica_rope", "needs parscale_n above 1");
  }
  if (replica_rope && !cross) {
    fields.error("enable_replica_rope", "needs enable_cross_attn");
  }
  if (!cross && fields.find_set("parscale_cross_attn_layers") != nullptr) {
    fields.error("parscale_cross_attn_layers", "needs enable_cross_attn");
  }
  const std::vector<bool> chosen = read_cross_layers(fields, config);

  if (config.architecture == Architecture::kParScaleCrossKv) {
    config.cross_kv_layer = chosen;
    config.cross_kv_causal = fields.flag("xkv_causal");
    if (fields.find_set("xkv_causal") == nullptr && any(chosen)) {
      fields.warn("xkv_causal",
                  "is absent: read as false, cross-KV as upstream wrote it, where every token "
                  "sees the future");
    }
    if (replica_rope) fields.warn("enable_replica_rope", "has no effect on cross-KV layers");
    return;
  }
  if (!cross) return;
  config.cross_layer = chosen;
  config.replica_rope = replica_rope;
  if (!any(chosen) || config.heads == 0 || config.hidden_size == 0) return;
  if (config.hidden_size % config.heads != 0) {
    fields.error("num_attention_heads", "must divide hidden_size (" +
                                            std::to_string(config.hidden_size) +
                                            "): cross attention has heads of that size");
  } else if (replica_rope && config.cross_head_dim() % 2 != 0) {
    fields.error("hidden_size", "hidden_size / num_attention_heads is " +
                                    std::to_string(config.cross_head_dim()) +
                                    ", which replica RoPE cannot rotate: it must be even");
  }
}

// a * b * ... as bytes of 8 each stays far from the end of 64 bits.
bool fits(std::initializer_list<std::int64_t> sizes) {
  std::int64_t product = 8;
  for (const std::int64_t size : sizes) {
    if (__builtin_mul_overflow(product, std::max<std::int64_t>(size, 1), &product)) return false;
  }
  return product < (std::int64_t{1} << 60);
}

}  // namespace

void read_windows(ConfigFields& fields, ModelConfig& config) {
  config.sliding_layer.assign(static_cast<std::size_t>(config.layers), false);
  if (config.is_parscale()) {
    if (fields.flag("use_sliding_window")) {
      fields.warn("use_sliding_window",
                  "is accepted and ignored, as upstream does: every layer attends in full");
    }
    return;
  }
  if (config.architecture == Architecture::kLlama) {
    if (fields.find_set("sliding_window") != nullptr) {
      fields.warn("sliding_window", "is ignored: llama has no sliding window");
    }
    return;
  }
  const bool used = fields.flag("use_sliding_window");
  const bool has_window = used && (fields.find("sliding_window") == nullptr ||
                                   fields.find_set("sliding_window") != nullptr);
  constexpr std::int64_t kDefaultWindow = 4096;
  constexpr std::int64_t kDefaultFullLayers = 28;
  if (has_window) {
    const Json* given = fields.find("sliding_window");
    if (given != nullptr && given->is(Json::Kind::kInteger) && given->integer == 0) {
      fields.error("sliding_window", "must be at least 1: a window of 0 hides every key",
                   "mask-window-zero-width");
    } else {
      config.sliding_window = fields.count("sliding_window", kDefaultWindow, 1, kLargestSize);
    }
  }
  const std::int64_t full_layers =
      fields.count("max_window_layers", kDefaultFullLayers, 0, kLargestSize);
  if (const Json* list = fields.find_set("layer_types"); list != nullptr) {
    read_layer_types(fields, *list, config);
    if (any(config.sliding_layer) && !has_window) {
      fields.error("layer_types",
                   "names sliding_attention, but use_sliding_window is false or sliding_window "
                   "is null, so there is no window");
    }
  } else if (has_window) {
    for (std::int64_t i = full_layers; i < config.layers; ++i) {
      config.sliding_layer[static_cast<std::size_t>(i)] = true;
    }
  }
  if (!any(config.sliding_layer)) config.sliding_window = 0;
}

void read_replicas(ConfigFields& fields, ModelConfig& config) {
  config.cross_layer.assign(static_cast<std::size_t>(config.layers), false);
  config.cross_kv_layer = config.cross_layer;
  if (!config.is_parscale()) {
    if (const Json* n = fields.find_set("parscale_n"); n != nullptr && n->number != 1.0) {
      fields.warn("parscale_n", "is ignored: " + config.model_type + " has no replicas");
    }
    return;
  }
  const bool upstream = config.architecture == Architecture::kParScale;
  config.replicas = fields.count("parscale_n", 1, 1, kLargestSize);
  constexpr std::int64_t kDefaultPrefix = 48;
  const std::int64_t fallback = upstream && config.replicas != 1 ? kDefaultPrefix : 0;
  config.declared_prefix_tokens = fields.count("parscale_n_tokens", fallback, 0, kLargestSize);
  const bool active = !upstream || config.replicas != 1;
  config.prefix_tokens = active ? config.declared_prefix_tokens : 0;
  if (config.replicas == 1 && config.declared_prefix_tokens > 0) {
    fields.warn("parscale_n_tokens",
                upstream ? "is ignored: with parscale_n = 1 there is no prefix"
                         : "a prefix at parscale_n = 1 is active in this model type; upstream "
                           "warns that it is seldom meant",
                kPrefixAtOneReplica);
  }
  config.attn_smooth = fields.number("parscale_attn_smooth").value_or(config.attn_smooth);
  if (config.attn_smooth < 0 || config.attn_smooth > 1) {
    fields.error("parscale_attn_smooth", "must be between 0 and 1");
  }

  const bool cross_type = config.architecture == Architecture::kParScaleCrossAttn ||
                          config.architecture == Architecture::kParScaleCrossKv;
  if (cross_type) {
    read_cross(fields, config);
    return;
  }
  for (const std::string_view name : {"enable_cross_attn", "enable_replica_rope"}) {
    const Json* json = fields.find_set(name);
    if (json != nullptr && json->boolean) {
      fields.warn(name, "is ignored: " + config.model_type + " has no cross attention");
    }
  }
}

void check_weight_sizes(ConfigFields& fields, const ModelConfig& config) {
  const ModelConfig& c = config;
  const bool ok = fits({c.vocab_size, c.hidden_size}) &&
                  fits({c.intermediate_size, c.hidden_size, c.layers}) &&
                  fits({c.heads, c.head_dim, c.hidden_size, c.layers}) &&
                  fits({c.kv_heads, c.head_dim, c.hidden_size, c.layers}) &&
                  fits({c.replicas, c.hidden_size, c.hidden_size}) &&
                  fits({c.replicas, c.kv_heads, c.prefix_tokens, c.head_dim, c.layers});
  if (!ok) fields.error("hidden_size", "the sizes together make weights larger than any machine");
}

}  // namespace ps
