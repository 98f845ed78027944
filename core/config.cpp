#include "core/config.h"

#include <algorithm>
#include <array>
#include <utility>

#include "core/config_fields.h"
#include "core/file.h"
#include "core/json.h"
#include "core/sparse_attention.h"

namespace ps {

namespace {

constexpr std::int64_t kMostLayers = 1 << 16;

// A config class of transformers or of upstream, and what it fills in where the file is silent.
struct ConfigClass {
  std::string_view model_type;
  Architecture architecture;
  std::string_view model_class;  // architectures[0]
  std::int64_t vocab_size, intermediate_size;
  std::int64_t kv_heads;  // 0 = as many as heads
  std::int64_t head_dim;  // 0 = hidden_size / heads
  std::int64_t max_position_embeddings;
};
constexpr std::int64_t kDefaultHidden = 4096;  // the same in all of them
constexpr std::int64_t kDefaultLayers = 32;
constexpr std::int64_t kDefaultHeads = 32;

constexpr std::array kClasses = {
    ConfigClass{"qwen2", Architecture::kQwen2, "Qwen2ForCausalLM", 151936, 22016, 32, 0, 32768},
    ConfigClass{"llama", Architecture::kLlama, "LlamaForCausalLM", 32000, 11008, 0, 0, 2048},
    ConfigClass{"qwen3", Architecture::kQwen3, "Qwen3ForCausalLM", 151936, 22016, 32, 128, 32768},
    ConfigClass{"qwen2_parscale", Architecture::kParScale, "Qwen2ParScaleForCausalLM", 151936,
                22016, 32, 0, 32768},
    ConfigClass{"parscale_base", Architecture::kParScaleBase, "ParScaleBaseForCausalLM", 151936,
                22016, 0, 0, 32768},
    ConfigClass{"parscale_cross_attn", Architecture::kParScaleCrossAttn,
                "ParScaleCrossAttnForCausalLM", 151936, 22016, 0, 0, 32768},
};
constexpr std::string_view kCrossAttnClass = "ParScaleCrossAttnForCausalLM";
constexpr std::string_view kCrossKvClass = "ParScaleCrossKVForCausalLM";

struct ActivationName {
  std::string_view name;
  Activation activation;
};
constexpr std::array kActivations = {
    // The first name of each is the one that reports use.
    ActivationName{"silu", Activation::kSilu},
    ActivationName{"swish", Activation::kSilu},
    ActivationName{"gelu", Activation::kGelu},
    ActivationName{"gelu_pytorch_tanh", Activation::kGeluTanh},
    ActivationName{"gelu_new", Activation::kGeluTanh},
    ActivationName{"relu", Activation::kRelu},
    ActivationName{"relu2", Activation::kRelu2},
    ActivationName{"quick_gelu", Activation::kQuickGelu},
};

std::optional<std::string> first_architecture(ConfigFields& fields) {
  const Json* list = fields.find_set("architectures");
  if (list == nullptr) return std::nullopt;
  if (!list->is(Json::Kind::kArray)) {
    fields.error("architectures", "must be a list, not " + std::string(to_string(list->kind)));
    return std::nullopt;
  }
  if (list->items.empty()) return std::nullopt;
  if (!list->items.front().is(Json::Kind::kString)) {
    fields.error("architectures", "must hold strings");
    return std::nullopt;
  }
  return list->items.front().text;
}

void read_architecture(ConfigFields& fields, const ConfigClass& known, ModelConfig& config) {
  config.architecture = known.architecture;
  config.model_type = known.model_type;
  const std::optional<std::string> name = first_architecture(fields);
  if (!name || *name == known.model_class) return;
  const bool xattn = known.architecture == Architecture::kParScaleBase ||
                     known.architecture == Architecture::kParScaleCrossAttn;
  if (xattn && *name == kCrossKvClass) {
    config.architecture = Architecture::kParScaleCrossKv;
  } else if (xattn && *name == kCrossAttnClass) {
    config.architecture = Architecture::kParScaleCrossAttn;
  }
  if (known.architecture == Architecture::kParScaleCrossAttn && *name == kCrossKvClass) return;
  const bool by_class = config.architecture != known.architecture;
  fields.warn("architectures", "does not name " + std::string(known.model_class) +
                                   ", the class of " + config.model_type + "; " +
                                   (by_class ? "the class decides" : "model_type decides"));
}

void read_sizes(ConfigFields& fields, const ConfigClass& known, ModelConfig& config) {
  const auto size = [&](std::string_view name, std::int64_t fallback) {
    return fields.count(name, fallback, 1, kLargestSize);
  };
  config.vocab_size = size("vocab_size", known.vocab_size);
  config.hidden_size = size("hidden_size", kDefaultHidden);
  config.intermediate_size = size("intermediate_size", known.intermediate_size);
  config.layers = fields.count("num_hidden_layers", kDefaultLayers, 1, kMostLayers);
  config.max_position_embeddings = size("max_position_embeddings", known.max_position_embeddings);
}

void read_heads(ConfigFields& fields, const ConfigClass& known, ModelConfig& config) {
  constexpr std::string_view kKvHeads = "num_key_value_heads";
  config.heads = fields.count("num_attention_heads", kDefaultHeads, 1, kLargestSize);
  const Json* kv = fields.find(kKvHeads);
  const bool as_heads = kv == nullptr ? known.kv_heads == 0 : kv->is(Json::Kind::kNull);
  config.kv_heads =
      as_heads ? config.heads : fields.count(kKvHeads, known.kv_heads, 1, kLargestSize);
  if (config.heads > 0 && config.kv_heads > 0 && config.heads % config.kv_heads != 0) {
    if (kv == nullptr) {
      fields.error(kKvHeads,
                   "is " + std::to_string(config.kv_heads) + " by default in " + config.model_type +
                       ", which does not divide num_attention_heads (" +
                       std::to_string(config.heads) + "); say it, or null for one of its own each",
                   "weights-kv-heads-default");
    } else {
      fields.error(kKvHeads,
                   "must divide num_attention_heads (" + std::to_string(config.heads) + ")");
    }
  }

  const Json* head_dim = fields.find("head_dim");
  const std::int64_t declared = head_dim == nullptr ? known.head_dim : 0;
  if (fields.find_set("head_dim") != nullptr) {
    config.head_dim = fields.count("head_dim", 0, 1, kLargestSize);
    if (config.head_dim % 2 != 0) fields.error("head_dim", "must be even: RoPE rotates pairs");
    return;
  }
  if (declared != 0) {
    config.head_dim = declared;
    return;
  }
  if (config.heads == 0 || config.hidden_size == 0) return;
  config.head_dim = config.hidden_size / config.heads;
  if (config.hidden_size % config.heads != 0) {
    fields.error("num_attention_heads", "must divide hidden_size (" +
                                            std::to_string(config.hidden_size) +
                                            ") where head_dim is not given");
  } else if (config.head_dim % 2 != 0) {
    fields.error("hidden_size", "hidden_size / num_attention_heads is the head size " +
                                    std::to_string(config.head_dim) +
                                    ", which must be even: RoPE rotates pairs");
  }
}

void read_numerics(ConfigFields& fields, ModelConfig& config) {
  const std::optional<std::string> act = fields.text("hidden_act");
  if (act) {
    const auto* found = std::find_if(kActivations.begin(), kActivations.end(),
                                     [&](const ActivationName& a) { return a.name == *act; });
    if (found != kActivations.end()) {
      config.activation = found->activation;
    } else {
      fields.error("hidden_act",
                   "this activation is not supported; silu, gelu, gelu_new, "
                   "gelu_pytorch_tanh, relu, relu2 and quick_gelu are");
    }
  }
  config.rms_norm_eps = fields.number("rms_norm_eps").value_or(config.rms_norm_eps);
  if (config.rms_norm_eps <= 0) fields.error("rms_norm_eps", "must be above 0");
  config.tie_word_embeddings = fields.flag("tie_word_embeddings");

  std::optional<DType> earlier;
  for (const std::string_view name : {"dtype", "torch_dtype"}) {
    const std::optional<std::string> text = fields.text(name);
    if (!text) continue;
    const std::optional<DType> dtype = dtype_from_torch(*text);
    if (!dtype || !is_floating(*dtype) || size_of(*dtype) == 1) {
      fields.error(name,
                   "is no dtype that a model runs in; float32, bfloat16, float16 and "
                   "float64 are");
    } else if (earlier && *earlier != *dtype) {
      fields.error(name, "contradicts dtype (" + std::string(torch_name(*earlier)) + ")");
    } else {
      config.dtype = *dtype;
      earlier = dtype;
    }
  }
  if (fields.find_set("quantization_config") != nullptr) {
    fields.error("quantization_config", "quantised weights are not supported");
  }
}

void read_biases(ConfigFields& fields, ModelConfig& config) {
  const bool llama = config.architecture == Architecture::kLlama;
  const bool qwen3 = config.architecture == Architecture::kQwen3;
  config.qk_norm = qwen3;
  if (!llama && !qwen3) {
    config.qkv_bias = true;
    return;
  }
  config.qkv_bias = fields.flag("attention_bias");
  config.o_bias = config.qkv_bias;
  if (llama) config.mlp_bias = fields.flag("mlp_bias");
}

}  // namespace

Result<ParsedConfig> parse_config(std::string_view json, const std::string& where) {
  PS_TRY(const Json root, parse_json(json, where));
  if (!root.is(Json::Kind::kObject)) {
    return bad_input(where, "a model config is a JSON object", "",
                     std::string(to_string(root.kind)));
  }
  const Json* type = root.find("model_type");
  const auto* known = kClasses.end();
  if (type != nullptr && type->is(Json::Kind::kString)) {
    known = std::find_if(kClasses.begin(), kClasses.end(),
                         [&](const ConfigClass& c) { return c.model_type == type->text; });
  }
  if (known == kClasses.end()) {
    std::string types;
    for (const ConfigClass& c : kClasses) {
      types += (types.empty() ? "" : ", ") + std::string(c.model_type);
    }
    return bad_input(where + ": model_type", "this model type is not supported", "one of " + types,
                     type == nullptr ? "no model_type" : type->brief());
  }

  ParsedConfig parsed;
  ModelConfig& config = parsed.config;
  config.json = json;
  ConfigFields fields(root, "", parsed.issues);
  read_architecture(fields, *known, config);
  read_sizes(fields, *known, config);
  read_heads(fields, *known, config);
  read_numerics(fields, config);
  read_biases(fields, config);
  read_rope(fields, parsed.issues, config);
  read_windows(fields, config);
  read_replicas(fields, config);
  check_weight_sizes(fields, config);
  if (parsed.issues.empty() || std::none_of(parsed.issues.begin(), parsed.issues.end(),
                                            [](const ConfigIssue& i) { return i.error; })) {
    const Result<std::optional<SparseAttention>> sparse = read_sparse_attention(config);
    if (!sparse.ok()) fields.error("sparse_attention", sparse.error().line());
  }
  return parsed;
}

Result<ParsedConfig> read_config(const std::filesystem::path& path) {
  std::error_code ignored;
  const bool directory = std::filesystem::is_directory(path, ignored);
  const std::filesystem::path file = directory ? path / "config.json" : path;
  constexpr std::int64_t kLongestFile = 16 << 20;
  PS_TRY(const std::string text, read_text(file, kLongestFile));
  return parse_config(text, file.string());
}

Result<ModelConfig> load_config(const std::filesystem::path& path) {
  PS_TRY(ParsedConfig parsed, read_config(path));
  return first_error_or_config(std::move(parsed), path.string());
}

Result<ModelConfig> first_error_or_config(ParsedConfig parsed, const std::string& where) {
  for (const ConfigIssue& issue : parsed.issues) {
    if (issue.error) return bad_input(where + ": " + issue.field, issue.rule, "", issue.value);
  }
  return std::move(parsed.config);
}

std::string_view to_string(Architecture architecture) {
  if (architecture == Architecture::kParScaleCrossKv) return "parscale_cross_kv";
  for (const ConfigClass& known : kClasses) {
    if (known.architecture == architecture) return known.model_type;
  }
  return "unknown";
}

std::string_view to_string(Activation activation) {
  for (const ActivationName& known : kActivations) {
    if (known.activation == activation) return known.name;
  }
  return "silu";
}

}  // namespace ps
