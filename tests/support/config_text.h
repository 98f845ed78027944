// A small valid config.json of any model type, with fields changed, added or left out.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ps {

using ConfigChange = std::pair<std::string, std::string>;  // field, JSON; "" leaves the field out

inline std::string config_text(std::string_view model_type,
                               const std::vector<ConfigChange>& changes = {}) {
  std::map<std::string, std::string> fields = {
      {"model_type", "\"" + std::string(model_type) + "\""},
      {"vocab_size", "97"},
      {"hidden_size", "24"},
      {"intermediate_size", "40"},
      {"num_hidden_layers", "3"},
      {"num_attention_heads", "6"},
      {"num_key_value_heads", "2"},
      {"head_dim", "8"},
      {"max_position_embeddings", "512"},
      {"torch_dtype", "\"bfloat16\""},
  };
  if (model_type.find("parscale") != std::string_view::npos) {
    fields["parscale_n"] = "5";
    fields["parscale_n_tokens"] = "7";
  }
  for (const auto& [field, json] : changes) {
    if (json.empty()) {
      fields.erase(field);
    } else {
      fields[field] = json;
    }
  }
  std::string text = "{";
  for (const auto& [field, json] : fields) {
    text += (text.size() > 1 ? ",\"" : "\"") + field + "\":" + json;
  }
  return text + "}";
}

}  // namespace ps
