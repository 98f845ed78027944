#include "diff/shard/families.h"

#include <algorithm>

namespace ps {

namespace {

constexpr FamilyName kNeoxNames[] = {
    {"embed_tokens", "embed_in"},
    {"norm", "final_layer_norm"},
    {"layers.*.self_attn.qkv_proj", "layers.*.attention.query_key_value"},
    {"layers.*.self_attn.o_proj", "layers.*.attention.dense"},
    {"layers.*.mlp.up_proj", "layers.*.mlp.dense_h_to_4h"},
    {"layers.*.mlp.down_proj", "layers.*.mlp.dense_4h_to_h"},
    {"layers.*.input_layernorm", "layers.*.input_layernorm"},
    {"layers.*.post_attention_layernorm", "layers.*.post_attention_layernorm"},
    {"lm_head", "/embed_out"},
};
constexpr std::string_view kNeoxBuffers[] = {".attention.bias", ".attention.masked_bias"};

constexpr FamilyName kBloomNames[] = {
    {"embed_tokens", "word_embeddings"},
    {"norm", "ln_f"},
    {"layers.*.self_attn.qkv_proj", "h.*.self_attention.query_key_value"},
    {"layers.*.self_attn.o_proj", "h.*.self_attention.dense"},
    {"layers.*.mlp.up_proj", "h.*.mlp.dense_h_to_4h"},
    {"layers.*.mlp.down_proj", "h.*.mlp.dense_4h_to_h"},
    {"layers.*.input_layernorm", "h.*.input_layernorm"},
    {"layers.*.post_attention_layernorm", "h.*.post_attention_layernorm"},
};
constexpr FamilyExtra kBloomExtras[] = {{"word_embeddings_layernorm.weight"},
                                        {"word_embeddings_layernorm.bias"}};

// Falcon is named as BLOOM, but for the norms. 7B: attention and MLP share one. 40B and 180B: each
// has its own.
constexpr FamilyName kFalconNorms[] = {{"layers.*.post_attention_layernorm", ""}};
constexpr FamilyName kFalconNewNorms[] = {
    {"layers.*.input_layernorm", "h.*.ln_attn"},
    {"layers.*.post_attention_layernorm", "h.*.ln_mlp"},
};

constexpr FamilyName kGpt2Names[] = {
    {"embed_tokens", "wte"},
    {"norm", "ln_f"},
    {"layers.*.self_attn.qkv_proj", "h.*.attn.c_attn"},
    {"layers.*.self_attn.o_proj", "h.*.attn.c_proj"},
    {"layers.*.mlp.up_proj", "h.*.mlp.c_fc"},
    {"layers.*.mlp.down_proj", "h.*.mlp.c_proj"},
    {"layers.*.input_layernorm", "h.*.ln_1"},
    {"layers.*.post_attention_layernorm", "h.*.ln_2"},
};
constexpr FamilyExtra kGpt2Extras[] = {{"wpe.weight", true}};
constexpr std::string_view kGpt2Buffers[] = {".attn.bias", ".attn.masked_bias"};

constexpr FamilyName kInternLm2Names[] = {
    {"embed_tokens", "tok_embeddings"},
    {"layers.*.self_attn.qkv_proj", "layers.*.attention.wqkv"},
    {"layers.*.self_attn.o_proj", "layers.*.attention.wo"},
    {"layers.*.mlp.gate_proj", "layers.*.feed_forward.w1"},
    {"layers.*.mlp.up_proj", "layers.*.feed_forward.w3"},
    {"layers.*.mlp.down_proj", "layers.*.feed_forward.w2"},
    {"layers.*.input_layernorm", "layers.*.attention_norm"},
    {"layers.*.post_attention_layernorm", "layers.*.ffn_norm"},
    {"norm", "norm"},
    {"lm_head", "/output"},
};

// Megatron-LM's core: the norms stand inside of the projections behind them.
constexpr FamilyName kMegatronNames[] = {
    {"embed_tokens", "embedding.word_embeddings"},
    {"norm", "decoder.final_layernorm"},
    {"layers.*.self_attn.qkv_proj", "decoder.layers.*.self_attention.linear_qkv"},
    {"layers.*.self_attn.o_proj", "decoder.layers.*.self_attention.linear_proj"},
    {"layers.*.self_attn.q_norm", "decoder.layers.*.self_attention.q_layernorm"},
    {"layers.*.self_attn.k_norm", "decoder.layers.*.self_attention.k_layernorm"},
    {"layers.*.mlp.gate_up_proj", "decoder.layers.*.mlp.linear_fc1"},
    {"layers.*.mlp.down_proj", "decoder.layers.*.mlp.linear_fc2"},
    {"layers.*.input_layernorm.weight",
     "decoder.layers.*.self_attention.linear_qkv.layer_norm_weight"},
    {"layers.*.post_attention_layernorm.weight",
     "decoder.layers.*.mlp.linear_fc1.layer_norm_weight"},
    {"lm_head", "/output_layer"},
};
constexpr std::string_view kMegatronBuffers[] = {"._extra_state"};

using L = CheckpointLayout;
using M = MlpLayout;
constexpr Family kFamilies[] = {
    {.name = "gpt_neox",
     .model_type = "gpt_neox",
     .layout = L::kPerHeadInterleaved,
     .root = "gpt_neox.",
     .names = kNeoxNames,
     .buffers = kNeoxBuffers},
    {.name = "bloom",
     .model_type = "bloom",
     .layout = L::kPerHeadInterleaved,
     .tied = true,
     .root = "transformer.",
     .names = kBloomNames,
     .extras = kBloomExtras},
    {.name = "falcon",
     .model_type = "falcon",
     .layout = L::kMegatronGrouped,
     .tied = true,
     .root = "transformer.",
     .names = kBloomNames,
     .but = kFalconNorms},
    {.name = "falcon, new decoder",
     .model_type = "falcon",
     .layout = L::kMegatronGrouped,
     .tied = true,
     .root = "transformer.",
     .names = kBloomNames,
     .but = kFalconNewNorms},
    {.name = "falcon-rw",
     .model_type = "falcon",
     .layout = L::kPerHeadInterleaved,
     .tied = true,
     .root = "transformer.",
     .names = kBloomNames},
    {.name = "gpt2",
     .model_type = "gpt2",
     .layout = L::kConcat,
     .conv1d = true,
     .tied = true,
     .root = "transformer.",
     .names = kGpt2Names,
     .extras = kGpt2Extras,
     .buffers = kGpt2Buffers},
    {.name = "internlm2",
     .model_type = "internlm2",
     .layout = L::kMegatronGrouped,
     .mlp = M::kGated,
     .norm_bias = false,
     .root = "model.",
     .names = kInternLm2Names},
    {.name = "phi3",
     .model_type = "phi3",
     .layout = L::kConcat,
     .mlp = M::kFused,
     .norm_bias = false},
    {.name = "megatron core",
     .sign = "decoder.layers.0.self_attention.linear_qkv.weight",
     .layout = L::kMegatronGrouped,
     .mlp = M::kFused,
     .norm_bias = false,
     .names = kMegatronNames,
     .buffers = kMegatronBuffers},
};

bool flag(const Json& config, std::string_view name, bool otherwise) {
  const Json* found = config.find(name);
  return found != nullptr && found->is(Json::Kind::kBool) ? found->boolean : otherwise;
}

std::int64_t number(const Json& config, std::initializer_list<std::string_view> names,
                    std::int64_t otherwise) {
  for (const std::string_view name : names) {
    const Json* found = config.find(name);
    if (found != nullptr && found->is(Json::Kind::kInteger)) return found->integer;
  }
  return otherwise;
}

std::string text(const Json& config, std::string_view name) {
  const Json* found = config.find(name);
  return found != nullptr && found->is(Json::Kind::kString) ? found->text : "";
}

// "layers.3.mlp.up_proj" against "layers.*.mlp.up_proj"; `layer` gets the 3.
bool matches(std::string_view pattern, std::string_view name, std::string_view& layer) {
  const std::size_t star = pattern.find('*');
  if (star == std::string_view::npos) return pattern == name;
  const std::string_view before = pattern.substr(0, star), after = pattern.substr(star + 1);
  if (!name.starts_with(before) || !name.ends_with(after) ||
      name.size() <= before.size() + after.size()) {
    return false;
  }
  layer = name.substr(before.size(), name.size() - before.size() - after.size());
  return std::all_of(layer.begin(), layer.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// The family's entry for a module; null where it keeps Llama's name.
const FamilyName* name_in(const Family& family, std::string_view module, std::string_view& layer) {
  for (const std::span<const FamilyName> names : {family.but, family.names}) {
    for (const FamilyName& known : names) {
      if (matches(known.plan, module, layer)) return &known;
    }
  }
  return nullptr;
}

}  // namespace

const Family* family_of(const Json& config,
                        const std::function<bool(std::string_view)>& has_tensor) {
  const std::string type = text(config, "model_type");
  for (const Family& family : kFamilies) {
    if (!family.sign.empty() && has_tensor(family.sign)) return &family;
    if (family.model_type.empty() || family.model_type != type) continue;
    if (type != "falcon") return &family;
    const bool grouped = flag(config, "new_decoder_architecture", false);
    const bool one_head = flag(config, "multi_query", true);
    const std::string_view wanted = grouped    ? "falcon, new decoder"
                                    : one_head ? "falcon"
                                               : "falcon-rw";
    if (family.name == wanted) return &family;
  }
  return nullptr;
}

Result<ParsedConfig> family_config(const Json& config, const Family& family,
                                   const std::string& where) {
  const std::int64_t hidden = number(config, {"hidden_size", "n_embd", "n_embed"}, 0);
  const std::int64_t heads = number(config, {"num_attention_heads", "n_head"}, 0);
  std::int64_t kv_heads =
      number(config, {"num_key_value_heads", "num_kv_heads", "n_head_kv"}, heads);
  if (family.name == "falcon") kv_heads = 1;
  if (family.layout == CheckpointLayout::kPerHeadInterleaved) kv_heads = heads;
  const bool plain = family.mlp == MlpLayout::kPlain;
  // GPT-2, GPT-NeoX and BLOOM have biases everywhere; Falcon says so; the gated ones have none.
  const bool bias = plain && flag(config, "bias", family.model_type != "falcon");
  const std::string yes_or_no[] = {"false", "true"};
  const auto field = [](const char* name, std::int64_t value) {
    return std::string("\"") + name + "\": " + std::to_string(value) + ", ";
  };
  const std::string json =
      "{\"model_type\": \"llama\", " + field("hidden_size", hidden) +
      field("num_attention_heads", heads) + field("num_key_value_heads", kv_heads) +
      (config.find("head_dim") != nullptr ? field("head_dim", number(config, {"head_dim"}, 0))
                                          : "") +
      field("intermediate_size",
            number(config, {"intermediate_size", "n_inner", "ffn_hidden_size"}, 4 * hidden)) +
      field("num_hidden_layers", number(config, {"num_hidden_layers", "n_layer"}, 0)) +
      field("vocab_size", number(config, {"vocab_size"}, 0)) +
      field("max_position_embeddings",
            number(config, {"max_position_embeddings", "n_positions", "n_ctx"}, 2048)) +
      "\"attention_bias\": " +
      yes_or_no[flag(config, "attention_bias", plain ? bias : flag(config, "bias", false))] +
      ", \"mlp_bias\": " + yes_or_no[bias] +
      ", \"tie_word_embeddings\": " + yes_or_no[flag(config, "tie_word_embeddings", family.tied)] +
      "}";
  return parse_config(json, where);
}

std::string family_tensor(const Family& family, std::string_view root, const std::string& name) {
  constexpr std::string_view kModel = "model.";
  std::string_view plan = name;
  if (plan.starts_with(kModel)) plan.remove_prefix(kModel.size());
  for (const std::string_view ending : {"", ".weight", ".bias"}) {
    if (!plan.ends_with(ending)) continue;
    const std::string_view module = plan.substr(0, plan.size() - ending.size());
    std::string_view layer;
    const FamilyName* known = name_in(family, module, layer);
    if (known == nullptr) continue;
    if (known->file.empty()) return "";
    std::string file(known->file);
    if (const std::size_t star = file.find('*'); star != std::string::npos) {
      file.replace(star, 1, layer);
    }
    // A name with '/' in front does not stand below the root.
    return (file[0] == '/' ? file.substr(1) : std::string(root) + file) + std::string(ending);
  }
  return name;
}

bool is_transposed(const Family& family, std::string_view plan_name) {
  return family.conv1d && plan_name.ends_with("_proj.weight");
}

}  // namespace ps
