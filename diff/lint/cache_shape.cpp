#include <algorithm>
#include <cctype>
#include <charconv>
#include <map>

#include "diff/lint/cache.h"

namespace ps {

namespace {

// "past_key_values.3.key" as words: letters with '_', or digits.
std::vector<std::string> words_of(std::string_view name) {
  std::vector<std::string> out(1);
  for (const char c : name) {
    if (c == '.' || c == ':' || c == '/') {
      out.emplace_back();
    } else {
      out.back() += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    }
  }
  return out;
}

bool one_of(const std::string& word, std::initializer_list<std::string_view> list) {
  return std::find(list.begin(), list.end(), word) != list.end();
}

Finding cache_finding(std::string id, const std::string& name, std::string message) {
  Finding f;
  f.id = std::move(id);
  f.fault_class = "cache";
  f.point = name;
  f.message = std::move(message);
  return f;
}

struct Axis {
  std::string words;  // "axis 1 is heads: 2 expected from num_key_value_heads, 0 found"
  bool wrong = false;
};

Axis axis_words(std::size_t axis, const char* what, std::int64_t expected, const std::string& from,
                std::int64_t found) {
  const std::string at = "axis " + std::to_string(axis) + " is " + what + ": ";
  return {
      at + std::to_string(expected) + " expected " + from + ", " + std::to_string(found) + " found",
      expected != found};
}

}  // namespace

std::optional<CacheName> cache_name(std::string_view name) {
  const std::vector<std::string> words = words_of(name);
  std::optional<std::int64_t> layer;
  std::optional<bool> keys;
  for (const std::string& word : words) {
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
    if (error == std::errc{} && end == word.data() + word.size() && !word.empty()) layer = number;
    if (one_of(word, {"k", "key", "keys", "k_cache", "key_cache", "cached_key", "past_key"})) {
      keys = true;
    }
    if (one_of(word,
               {"v", "value", "values", "v_cache", "value_cache", "cached_value", "past_value"})) {
      keys = false;
    }
    if (one_of(word, {"weight", "bias", "grad", "partial"})) return std::nullopt;
  }
  if (!layer || !keys || *layer < 0) return std::nullopt;
  return CacheName{*layer, *keys};
}

std::optional<Finding> cache_shape_finding(const CacheName& cache, const std::string& name,
                                           const Shape& found, const ModelConfig& config,
                                           const std::optional<StepSizes>& sizes) {
  if (cache.layer >= config.layers) {
    return cache_finding("cache-shape", name,
                         "there is no layer " + std::to_string(cache.layer) + ": " +
                             std::to_string(config.layers) + " expected from num_hidden_layers");
  }
  if (found.size() != 4) {
    return cache_finding("cache-shape", name,
                         "a cache has 4 axes (rows, heads, slots, channels): " +
                             std::to_string(found.size()) + " found, " + to_string(found));
  }
  const bool cross_kv = config.cross_kv_layer[static_cast<std::size_t>(cache.layer)];
  const std::int64_t prefix = cross_kv ? 0 : config.prefix_tokens;
  std::vector<Axis> axes;
  if (sizes) {
    axes.push_back(axis_words(0, "rows", config.replicas * sizes->batch,
                              "from parscale_n * batch (" + std::to_string(config.replicas) +
                                  " * " + std::to_string(sizes->batch) + ")",
                              found[0]));
  } else if (found[0] == 0 || found[0] % config.replicas != 0) {
    axes.push_back({"axis 0 is rows: a multiple of " + std::to_string(config.replicas) +
                        " expected from parscale_n, " + std::to_string(found[0]) + " found",
                    true});
  }
  axes.push_back(axis_words(1, "heads", config.kv_heads, "from num_key_value_heads", found[1]));
  const std::int64_t past = !sizes || (cross_kv && !config.cross_kv_causal) ? 0 : sizes->past;
  const std::int64_t slots = sizes ? prefix + past + sizes->length : 0;
  if (sizes) {
    axes.push_back(axis_words(2, "slots", slots,
                              "from prefix + past + new (" + std::to_string(prefix) + " + " +
                                  std::to_string(past) + " + " + std::to_string(sizes->length) +
                                  ")",
                              found[2]));
  } else if (found[2] <= prefix) {
    axes.push_back({"axis 2 is slots: more than the " + std::to_string(prefix) +
                        " of the prefix expected from parscale_n_tokens, " +
                        std::to_string(found[2]) + " found",
                    true});
  }
  axes.push_back(axis_words(3, "channels", config.head_dim, "from head_dim", found[3]));
  std::string wrong;
  for (const Axis& axis : axes) {
    if (axis.wrong) wrong += (wrong.empty() ? "" : "; ") + axis.words;
  }
  if (wrong.empty()) return std::nullopt;

  Finding f = cache_finding("cache-shape", name, wrong);
  f.evidence = {{"found", to_string(found)}};
  const bool heads_wrong = found[1] != config.kv_heads;
  const bool slots_wrong = sizes ? found[2] != slots : found[2] <= prefix;
  // Alone, a cache of as many heads as queries have is rather one with repeated heads.
  const bool exchanged =
      found[2] == config.kv_heads &&
      (sizes ? slots_wrong && found[1] == slots : found[1] > prefix && found[1] != config.heads);
  if (heads_wrong && exchanged) {
    f.id = "cache-layout-transposed";
    f.message = "heads and slots stand in each other's place: " + wrong;
  } else if (heads_wrong) {
    f.id = "TP042";
    if (found[1] == config.heads && config.group() > 1) {
      f.message += ": the key/value heads were repeated for the query heads before caching";
    }
  } else if (slots_wrong) {
    f.id = "TP040";
  }
  return f;
}

std::vector<Finding> cache_differences(const SafetensorsFile& file, const ModelConfig* config) {
  std::vector<Finding> out;
  const SafetensorsFile::Entry* first = nullptr;
  std::map<std::pair<std::int64_t, bool>, std::string> seen;
  for (const auto& entry : file.entries()) {
    const auto cache = cache_name(entry.name);
    if (!cache || entry.view.shape.size() != 4) continue;
    const bool cross_kv = config != nullptr && cache->layer < config->layers &&
                          config->cross_kv_layer[static_cast<std::size_t>(cache->layer)];
    if (cross_kv) continue;  // these layers have a length of their own
    if (first == nullptr) first = &entry;
    constexpr const char* kAxes[] = {"rows", "heads", "slots", "channels"};
    for (std::size_t a = 0; a < 4 && config == nullptr; ++a) {
      if (entry.view.shape[a] > 0) continue;
      out.push_back(cache_finding(a == 2   ? "TP040"
                                  : a == 1 ? "TP042"
                                           : "cache-shape",
                                  entry.name,
                                  "axis " + std::to_string(a) + " is " + kAxes[a] +
                                      ": at least 1 expected, 0 found: nothing was cached"));
      break;
    }
    if (entry.view.shape != first->view.shape) {
      std::string message;
      for (std::size_t a = 0; a < 4; ++a) {
        if (entry.view.shape[a] == first->view.shape[a]) continue;
        message += (message.empty() ? "" : "; ") + std::string("axis ") + std::to_string(a) +
                   " is " + kAxes[a] + ": " + std::to_string(first->view.shape[a]) +
                   " expected from " + first->name + ", " + std::to_string(entry.view.shape[a]) +
                   " found";
      }
      out.push_back(cache_finding("TP040", entry.name, message));
    }
    const std::string bytes(reinterpret_cast<const char*>(entry.view.bytes.data()),
                            entry.view.bytes.size());
    const bool constant = bytes.find_first_not_of(bytes.empty() ? '\0' : bytes[0]) == bytes.npos;
    if (constant) continue;
    for (const auto& [key, name] : seen) {
      const TensorView* other = file.find(name);
      const bool same =
          other->bytes.size() == entry.view.bytes.size() &&
          std::equal(other->bytes.begin(), other->bytes.end(), entry.view.bytes.begin());
      if (!same) continue;
      Finding f = cache_finding(
          "cache-parameter-aliased", entry.name,
          "is, bit for bit, " + name + ": two caches share one memory, or one was written twice");
      out.push_back(std::move(f));
      break;
    }
    seen.emplace(std::pair(cache->layer, cache->keys), entry.name);
  }
  return out;
}

}  // namespace ps
