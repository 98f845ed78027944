// ModelConfig: what a Hugging Face config.json says about a model, with every rule of
// spec parscale.md section 1 checked. Both generations of the file are read (rope_theta +
// rope_scaling + torch_dtype, and transformers 5's rope_parameters + dtype + layer_types).
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/dtype.h"
#include "core/result.h"

namespace ps {

enum class Architecture : std::uint8_t {
  kQwen2,
  kLlama,
  kQwen3,
  kParScale,           // qwen2_parscale
  kParScaleBase,       // parscale_base (parscale-xattn without cross attention)
  kParScaleCrossAttn,  // parscale_cross_attn
  kParScaleCrossKv,    // architectures[0] == "ParScaleCrossKVForCausalLM"
};

enum class Activation : std::uint8_t { kSilu, kGelu, kGeluTanh, kRelu, kRelu2, kQuickGelu };

enum class RopeKind : std::uint8_t { kDefault, kLinear, kLlama3, kYarn };

struct Rope {
  RopeKind kind = RopeKind::kDefault;
  double theta = 10000.0;
  double factor = 1.0;
  double low_freq_factor = 1.0;   // llama3
  double high_freq_factor = 4.0;  // llama3
  std::optional<double> original_max_position;
  double beta_fast = 32.0;                 // yarn
  double beta_slow = 1.0;                  // yarn
  std::optional<double> attention_factor;  // yarn; absent = 0.1 ln k + 1
  std::optional<double> mscale;            // yarn (DeepSeek's pair)
  std::optional<double> mscale_all_dim;
  bool truncate = true;  // yarn: floor/ceil of the correction range
};

struct ModelConfig {
  Architecture architecture = Architecture::kQwen2;
  std::string model_type;
  std::int64_t vocab_size = 0;
  std::int64_t hidden_size = 0;
  std::int64_t intermediate_size = 0;
  std::int64_t layers = 0;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t all_heads = 0;  // of a tensor-parallel rank's config: the whole model's; else 0
  std::int64_t max_position_embeddings = 0;
  Activation activation = Activation::kSilu;
  double rms_norm_eps = 1e-6;
  Rope rope;
  bool tie_word_embeddings = false;
  DType dtype = DType::kF32;  // torch_dtype / dtype; F32 when the file says nothing
  bool qkv_bias = false;
  bool o_bias = false;
  bool mlp_bias = false;
  bool qk_norm = false;
  std::int64_t sliding_window = 0;          // 0 = none; a query sees k > q - sliding_window
  std::vector<bool> sliding_layer;          // [layers]
  std::int64_t replicas = 1;                // P
  std::int64_t prefix_tokens = 0;           // T, 0 when no prefix is active
  std::int64_t declared_prefix_tokens = 0;  // what the file says
  double attn_smooth = 0.01;
  std::vector<bool> cross_layer;     // [layers] cross-replica attention before the layer
  std::vector<bool> cross_kv_layer;  // [layers] self attention over all replicas' tokens
  bool cross_kv_causal = false;
  bool replica_rope = false;
  std::string json;  // the file's text, for traces

  std::int64_t group() const { return heads / kv_heads; }  // query heads a kv head
  std::int64_t cross_head_dim() const { return hidden_size / (all_heads > 0 ? all_heads : heads); }
  bool aggregates() const { return replicas > 1; }
  bool is_parscale() const { return architecture >= Architecture::kParScale; }
};

// One rule that a config breaks, or a thing worth saying about it.
struct ConfigIssue {
  bool error = true;  // false: a warning
  std::string id;     // a fault id where one fits, else "config-rule"
  std::string field;  // "num_key_value_heads"
  std::string value;  // what the file has, as JSON
  std::string rule;   // the sentence
};

struct ParsedConfig {
  ModelConfig config;  // meaningful only where `issues` has no error
  std::vector<ConfigIssue> issues;
};

// Total: any text gives a ParsedConfig or an Error (not JSON, not an object, unknown model type).
Result<ParsedConfig> parse_config(std::string_view json, const std::string& where);
// dir/config.json, or the file itself.
Result<ParsedConfig> read_config(const std::filesystem::path& path);
// As read_config; a broken rule is an Error that names field, value, rule (the first of them).
Result<ModelConfig> load_config(const std::filesystem::path& path);
Result<ModelConfig> first_error_or_config(ParsedConfig parsed, const std::string& where);

std::string_view to_string(Architecture architecture);
std::string_view to_string(Activation activation);
std::string_view to_string(RopeKind kind);

}  // namespace ps
