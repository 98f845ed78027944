#include "core/config.h"

#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/config_text.h"
#include "tests/support/fixtures.h"
#include "tests/support/temp_dir.h"

namespace ps {
namespace {

ParsedConfig parsed(std::string_view type, const std::vector<ConfigChange>& changes = {}) {
  Result<ParsedConfig> result = parse_config(config_text(type, changes), "config.json");
  EXPECT_TRUE(result.ok()) << result.error().line();
  return result.ok() ? std::move(result).value() : ParsedConfig{};
}

std::string listed(const ParsedConfig& config) {
  std::string out;
  for (const ConfigIssue& i : config.issues) {
    out += (i.error ? "error " : "warning ") + i.field + " " + i.value + " " + i.rule + "\n";
  }
  return out;
}

// A config without any issue.
ModelConfig good(std::string_view type, const std::vector<ConfigChange>& changes = {}) {
  const ParsedConfig config = parsed(type, changes);
  EXPECT_EQ(listed(config), "");
  return config.config;
}

struct RuleCase {
  std::string type;
  std::vector<ConfigChange> changes;
  std::string field;  // of the one issue expected
  std::string value;
  std::string rule;  // part of its sentence
  std::string id = "config-rule";
};

std::vector<RuleCase> broken_rules() {
  const std::string qwen2 = "qwen2";
  const std::string llama = "llama";
  const std::string ours = "qwen2_parscale";
  const std::string base = "parscale_base";
  const std::string cross = "parscale_cross_attn";
  const ConfigChange on = {"enable_cross_attn", "true"};
  return {
      // Types of the JSON values, named by field.
      {qwen2, {{"vocab_size", "\"97\""}}, "vocab_size", "\"97\"", "a whole number, not a string"},
      {qwen2, {{"vocab_size", "97.0"}}, "vocab_size", "97.0", "a whole number, not a number"},
      {qwen2, {{"vocab_size", "true"}}, "vocab_size", "true", "a whole number, not a boolean"},
      {qwen2, {{"hidden_size", "null"}}, "hidden_size", "null", "a whole number, not null"},
      {qwen2, {{"rms_norm_eps", "\"1e-6\""}}, "rms_norm_eps", "\"1e-6\"", "must be a number"},
      {qwen2, {{"tie_word_embeddings", "1"}}, "tie_word_embeddings", "1", "true or false"},
      {qwen2, {{"hidden_act", "[]"}}, "hidden_act", "[]", "must be a string, not a list"},
      {qwen2,
       {{"architectures", "\"Qwen2ForCausalLM\""}},
       "architectures",
       "\"Qwen2ForCausalLM\"",
       "must be a list"},
      {qwen2, {{"architectures", "[7]"}}, "architectures", "[7]", "must hold strings"},
      {qwen2, {{"rope_scaling", "4"}}, "rope_scaling", "4", "an object or null"},
      // Sizes.
      {qwen2, {{"vocab_size", "0"}}, "vocab_size", "0", "between 1 and"},
      {qwen2, {{"hidden_size", "-24"}}, "hidden_size", "-24", "between 1 and"},
      {qwen2, {{"intermediate_size", "0"}}, "intermediate_size", "0", "between 1 and"},
      {qwen2, {{"num_hidden_layers", "0"}}, "num_hidden_layers", "0", "between 1 and 65536"},
      {qwen2, {{"num_hidden_layers", "2000000000"}}, "num_hidden_layers", "2000000000", "65536"},
      {qwen2, {{"num_attention_heads", "0"}}, "num_attention_heads", "0", "between 1 and"},
      {qwen2, {{"num_key_value_heads", "0"}}, "num_key_value_heads", "0", "between 1 and"},
      {qwen2, {{"max_position_embeddings", "0"}}, "max_position_embeddings", "0", "between 1"},
      {qwen2,
       {{"vocab_size", "2147483649"}},
       "vocab_size",
       "2147483649",
       "between 1 and 2147483648"},
      {qwen2,
       {{"vocab_size", "99999999999999999999"}},
       "vocab_size",
       "99999999999999999999",
       "a whole number"},
      {qwen2,
       {{"hidden_size", "2147483648"}, {"vocab_size", "2147483648"}},
       "hidden_size",
       "2147483648",
       "larger than any machine"},
      // Heads.
      {ours,
       {{"num_key_value_heads", "4"}},
       "num_key_value_heads",
       "4",
       "must divide num_attention_heads (6)"},
      {ours, {{"num_key_value_heads", "12"}}, "num_key_value_heads", "12", "must divide"},
      {ours,
       {{"num_key_value_heads", ""}},
       "num_key_value_heads",
       "absent",
       "is 32 by default",
       "weights-kv-heads-default"},
      {qwen2,
       {{"num_key_value_heads", ""}},
       "num_key_value_heads",
       "absent",
       "is 32 by default",
       "weights-kv-heads-default"},
      {"qwen3",
       {{"num_key_value_heads", ""}},
       "num_key_value_heads",
       "absent",
       "by default",
       "weights-kv-heads-default"},
      {ours, {{"head_dim", "7"}}, "head_dim", "7", "must be even"},
      {ours, {{"head_dim", "0"}}, "head_dim", "0", "between 1 and"},
      {ours, {{"head_dim", ""}, {"hidden_size", "30"}}, "hidden_size", "30", "must be even"},
      {ours,
       {{"head_dim", "null"}, {"hidden_size", "26"}},
       "num_attention_heads",
       "6",
       "must divide hidden_size (26)"},
      // Numbers and words.
      {qwen2, {{"rms_norm_eps", "0"}}, "rms_norm_eps", "0", "above 0"},
      {qwen2, {{"rms_norm_eps", "-1e-6"}}, "rms_norm_eps", "-1e-6", "above 0"},
      {qwen2, {{"hidden_act", "\"mish\""}}, "hidden_act", "\"mish\"", "not supported"},
      {qwen2, {{"torch_dtype", "\"int8\""}}, "torch_dtype", "\"int8\"", "no dtype"},
      {qwen2,
       {{"torch_dtype", "\"float8_e4m3fn\""}},
       "torch_dtype",
       "\"float8_e4m3fn\"",
       "no dtype"},
      {qwen2, {{"dtype", "\"float32\""}}, "torch_dtype", "\"bfloat16\"", "contradicts dtype"},
      {qwen2,
       {{"quantization_config", "{\"bits\":4}"}},
       "quantization_config",
       "{\"bits\":4}",
       "not supported"},
      {qwen2, {{"partial_rotary_factor", "0.5"}}, "partial_rotary_factor", "0.5", "must be 1"},
      // RoPE.
      {qwen2, {{"rope_theta", "0"}}, "rope_theta", "0", "above 0"},
      {qwen2,
       {{"rope_scaling", "{\"rope_type\":\"dynamic\",\"factor\":2}"}},
       "rope_scaling.rope_type",
       "\"dynamic\"",
       "not supported"},
      {qwen2,
       {{"rope_scaling", "{\"type\":\"longrope\",\"factor\":2}"}},
       "rope_scaling.type",
       "\"longrope\"",
       "not supported"},
      {qwen2, {{"rope_scaling", "{\"factor\":2}"}}, "rope_scaling.rope_type", "absent", "missing"},
      {qwen2,
       {{"rope_scaling", "{\"type\":\"linear\"}"}},
       "rope_scaling.factor",
       "absent",
       "rope type linear needs it"},
      {qwen2,
       {{"rope_scaling", "{\"type\":\"linear\",\"factor\":0}"}},
       "rope_scaling.factor",
       "0",
       "above 0"},
      {qwen2,
       {{"rope_scaling", "{\"type\":\"linear\",\"factor\":\"2\"}"}},
       "rope_scaling.factor",
       "\"2\"",
       "must be a number"},
      {llama,
       {{"rope_scaling",
         R"({"rope_type":"llama3","factor":8,"low_freq_factor":1,"high_freq_factor":4})"}},
       "rope_scaling.original_max_position_embeddings",
       "absent",
       "llama3 needs it"},
      {llama,
       {{"rope_scaling",
         R"({"rope_type":"llama3","factor":8,"low_freq_factor":4,"high_freq_factor":4,)"
         R"("original_max_position_embeddings":64})"}},
       "rope_scaling.high_freq_factor",
       "4",
       "above low_freq_factor"},
      {qwen2,
       {{"rope_scaling", R"({"type":"yarn","factor":4,"attention_factor":-1})"}},
       "rope_scaling.attention_factor",
       "-1",
       "above 0"},
      {qwen2,
       {{"rope_scaling", R"({"type":"yarn","factor":4})"}, {"rope_theta", "1"}},
       "rope_theta",
       "1",
       "above 1 for yarn"},
      {qwen2,
       {{"rope_parameters", R"({"rope_type":"default","rope_theta":5e5})"}, {"rope_theta", "1e4"}},
       "rope_theta",
       "1e4",
       "contradicts the rope_theta of rope_parameters"},
      {qwen2,
       {{"rope_parameters", R"({"rope_type":"linear","factor":2})"},
        {"rope_scaling", R"({"type":"linear","factor":3})"}},
       "rope_scaling",
       R"({"type":"linear","factor":3})",
       "contradicts rope_parameters"},
      {qwen2,
       {{"rope_parameters", R"({"full_attention":{"rope_theta":1e6},)"
                            R"("sliding_attention":{"rope_theta":1e4}})"}},
       "rope_parameters",
       R"({"full_attention":{"rope_theta":1e6},"sliding_attention":{"r...)",
       "different rotations"},
      {qwen2,
       {{"rope_parameters", R"({"rope_type":"default","partial_rotary_factor":0.25})"}},
       "rope_parameters.partial_rotary_factor",
       "0.25",
       "must be 1"},
      // Windows.
      {qwen2,
       {{"use_sliding_window", "true"}, {"sliding_window", "0"}},
       "sliding_window",
       "0",
       "a window of 0 hides every key",
       "mask-window-zero-width"},
      {qwen2,
       {{"use_sliding_window", "true"}, {"sliding_window", "-4"}},
       "sliding_window",
       "-4",
       "between 1 and"},
      {qwen2,
       {{"layer_types", "[\"full_attention\",\"full_attention\"]"}},
       "layer_types",
       "[\"full_attention\",\"full_attention\"]",
       "(3) entries, not 2"},
      {qwen2,
       {{"layer_types", "[\"full_attention\",\"linear_attention\",\"full_attention\"]"}},
       "layer_types",
       "[\"full_attention\",\"linear_attention\",\"full_attention\"]",
       "entry 1 is \"linear_attention\""},
      {qwen2,
       {{"layer_types", "[\"full_attention\",\"sliding_attention\",\"full_attention\"]"}},
       "layer_types",
       "[\"full_attention\",\"sliding_attention\",\"full_attention\"]",
       "there is no window"},
      {qwen2, {{"layer_types", "{}"}}, "layer_types", "{}", "must be a list"},
      {qwen2, {{"max_window_layers", "-1"}}, "max_window_layers", "-1", "between 0 and"},
      // Replicas: upstream accepts these, and computes nonsense or crashes later.
      {ours, {{"parscale_n", "0"}}, "parscale_n", "0", "between 1 and"},
      {ours, {{"parscale_n_tokens", "-1"}}, "parscale_n_tokens", "-1", "between 0 and"},
      {ours, {{"parscale_n", "null"}}, "parscale_n", "null", "a whole number"},
      {ours, {{"parscale_attn_smooth", "2"}}, "parscale_attn_smooth", "2", "between 0 and 1"},
      {ours, {{"parscale_attn_smooth", "-0.1"}}, "parscale_attn_smooth", "-0.1", "between 0 and 1"},
      {ours,
       {{"parscale_n", "2147483648"}, {"hidden_size", "2147483646"}},
       "hidden_size",
       "2147483646",
       "larger than any machine"},
      // parscale-xattn's ValueErrors.
      {base, {{"parscale_n", "0"}}, "parscale_n", "0", "between 1 and"},
      {base, {{"parscale_n_tokens", "-1"}}, "parscale_n_tokens", "-1", "between 0 and"},
      {cross, {on, {"enable_xkv_attn", "true"}}, "enable_xkv_attn", "true", "excludes"},
      {cross,
       {on, {"parscale_n", "1"}, {"parscale_n_tokens", "0"}},
       "enable_cross_attn",
       "true",
       "needs parscale_n above 1"},
      {cross,
       {{"enable_replica_rope", "true"}},
       "enable_replica_rope",
       "true",
       "needs enable_cross_attn"},
      {cross,
       {{"parscale_cross_attn_layers", "[1]"}},
       "parscale_cross_attn_layers",
       "[1]",
       "needs enable_cross_attn"},
      {cross,
       {on, {"parscale_cross_attn_layers", "{\"1\":2}"}},
       "parscale_cross_attn_layers",
       "{\"1\":2}",
       "must be a list or null"},
      {cross,
       {on, {"parscale_cross_attn_layers", "[1,\"2\"]"}},
       "parscale_cross_attn_layers",
       "[1,\"2\"]",
       "must hold layer numbers, not \"2\""},
      {cross,
       {on, {"parscale_cross_attn_layers", "[1.0]"}},
       "parscale_cross_attn_layers",
       "[1.0]",
       "must hold layer numbers"},
      {cross,
       {on, {"parscale_cross_attn_layers", "[-1]"}},
       "parscale_cross_attn_layers",
       "[-1]",
       "layer -1 is outside 0 to 2"},
      {cross,
       {on, {"parscale_cross_attn_layers", "[0,3]"}},
       "parscale_cross_attn_layers",
       "[0,3]",
       "layer 3 is outside 0 to 2"},
      {cross, {on, {"hidden_size", "26"}}, "num_attention_heads", "6", "must divide hidden_size"},
      {cross,
       {on, {"enable_replica_rope", "true"}, {"hidden_size", "30"}},
       "hidden_size",
       "30",
       "must be even"},
  };
}

TEST(Config, EveryBrokenRuleIsOneErrorWithFieldValueAndRule) {
  for (const RuleCase& c : broken_rules()) {
    const ParsedConfig config = parsed(c.type, c.changes);
    ASSERT_EQ(config.issues.size(), 1u) << c.field << " " << c.rule << "\n" << listed(config);
    const ConfigIssue& issue = config.issues.front();
    EXPECT_TRUE(issue.error) << listed(config);
    EXPECT_EQ(issue.field, c.field);
    EXPECT_EQ(issue.value, c.value);
    EXPECT_EQ(issue.id, c.id) << c.field;
    EXPECT_NE(issue.rule.find(c.rule), std::string::npos) << c.rule << "\n" << listed(config);
  }
}

TEST(Config, OneReplicaWithReplicaRopeBreaksTheRuleEvenWithCrossAttention) {
  const ParsedConfig config = parsed("parscale_cross_attn", {{"parscale_n", "1"},
                                                             {"parscale_n_tokens", "0"},
                                                             {"enable_cross_attn", "true"},
                                                             {"enable_replica_rope", "true"}});
  EXPECT_EQ(listed(config),
            "error enable_cross_attn true needs parscale_n above 1\n"
            "error enable_replica_rope true needs parscale_n above 1\n");
}

std::vector<RuleCase> warnings() {
  return {
      {"qwen2_parscale",
       {{"parscale_n", "1"}, {"parscale_n_tokens", "3"}},
       "parscale_n_tokens",
       "3",
       "is ignored",
       "runtime-wrong-default-config"},
      {"parscale_base",
       {{"parscale_n", "1"}, {"parscale_n_tokens", "4"}},
       "parscale_n_tokens",
       "4",
       "is active",
       "runtime-wrong-default-config"},
      {"parscale_cross_attn",
       {{"parscale_n", "1"}, {"parscale_n_tokens", "4"}},
       "parscale_n_tokens",
       "4",
       "is active",
       "runtime-wrong-default-config"},
      {"qwen2_parscale",
       {{"use_sliding_window", "true"}},
       "use_sliding_window",
       "true",
       "accepted and ignored"},
      {"qwen2", {{"parscale_n", "4"}}, "parscale_n", "4", "has no replicas"},
      {"llama", {{"sliding_window", "4096"}}, "sliding_window", "4096", "llama has no"},
      {"qwen2",
       {{"architectures", "[\"LlamaForCausalLM\"]"}},
       "architectures",
       "[\"LlamaForCausalLM\"]",
       "model_type decides"},
      {"parscale_base",
       {{"enable_cross_attn", "true"}},
       "enable_cross_attn",
       "true",
       "has no cross attention"},
      {"qwen2",
       {{"rope_scaling", "{\"type\":\"linear\",\"factor\":0.5}"}},
       "rope_scaling.factor",
       "0.5",
       "shortens"},
      {"qwen2",
       {{"rope_scaling", R"({"type":"yarn","factor":4,"original_max_position_embeddings":256})"}},
       "rope_scaling.factor",
       "4",
       "used instead"},
      {"parscale_cross_attn",
       {{"architectures", "[\"ParScaleCrossKVForCausalLM\"]"}},
       "xkv_causal",
       "absent",
       "sees the future"},
  };
}

TEST(Config, DoubtfulConfigsGiveOneWarningAndStillLoad) {
  for (const RuleCase& c : warnings()) {
    const ParsedConfig config = parsed(c.type, c.changes);
    ASSERT_EQ(config.issues.size(), 1u) << c.field << "\n" << listed(config);
    const ConfigIssue& issue = config.issues.front();
    EXPECT_FALSE(issue.error) << listed(config);
    EXPECT_EQ(issue.field, c.field);
    EXPECT_EQ(issue.value, c.value);
    EXPECT_EQ(issue.id, c.id) << c.field;
    EXPECT_NE(issue.rule.find(c.rule), std::string::npos) << listed(config);
    EXPECT_TRUE(first_error_or_config(config, "config.json").ok());
  }
}

TEST(Config, PrefixDefaultsDependOnTypeAndReplicas) {
  const auto tokens = [](std::string_view type, const char* n) {
    return good(type, {{"parscale_n", n}, {"parscale_n_tokens", ""}}).prefix_tokens;
  };
  EXPECT_EQ(tokens("qwen2_parscale", "2"), 48);
  EXPECT_EQ(tokens("qwen2_parscale", "1"), 0);
  EXPECT_EQ(tokens("qwen2_parscale", ""), 0);
  EXPECT_EQ(tokens("parscale_base", "2"), 0);
  EXPECT_EQ(tokens("parscale_cross_attn", "2"), 0);
}

TEST(Config, PrefixIsActiveWhereTheTypeSaysSo) {
  const std::vector<ConfigChange> one = {{"parscale_n", "1"}, {"parscale_n_tokens", "4"}};
  const ModelConfig ours = parsed("qwen2_parscale", one).config;
  EXPECT_EQ(ours.prefix_tokens, 0);
  EXPECT_EQ(ours.declared_prefix_tokens, 4);
  EXPECT_EQ(parsed("parscale_base", one).config.prefix_tokens, 4);
  EXPECT_EQ(good("qwen2_parscale").prefix_tokens, 7);
  EXPECT_EQ(good("qwen2_parscale").replicas, 5);
}

TEST(Config, KeyValueHeadsDefaultByType) {
  const std::vector<ConfigChange> absent = {{"num_key_value_heads", ""},
                                            {"num_attention_heads", "64"}};
  EXPECT_EQ(good("qwen2", absent).kv_heads, 32);
  EXPECT_EQ(good("qwen3", absent).kv_heads, 32);
  EXPECT_EQ(good("qwen2_parscale", absent).kv_heads, 32);
  EXPECT_EQ(good("llama", absent).kv_heads, 64);
  EXPECT_EQ(good("parscale_base", absent).kv_heads, 64);
  EXPECT_EQ(good("parscale_cross_attn", absent).kv_heads, 64);
  EXPECT_EQ(good("qwen2_parscale", {{"num_key_value_heads", "null"}}).kv_heads, 6);
}

TEST(Config, SizesLeftOutAreTheClassesDefaults) {
  const Result<ParsedConfig> ours = parse_config(R"({"model_type":"qwen2_parscale"})", "c");
  ASSERT_TRUE(ours.ok());
  EXPECT_EQ(listed(*ours), "");
  EXPECT_EQ(ours->config.vocab_size, 151936);
  EXPECT_EQ(ours->config.hidden_size, 4096);
  EXPECT_EQ(ours->config.intermediate_size, 22016);
  EXPECT_EQ(ours->config.layers, 32);
  EXPECT_EQ(ours->config.heads, 32);
  EXPECT_EQ(ours->config.kv_heads, 32);
  EXPECT_EQ(ours->config.head_dim, 128);
  EXPECT_EQ(ours->config.max_position_embeddings, 32768);
  EXPECT_EQ(ours->config.replicas, 1);
  EXPECT_EQ(ours->config.attn_smooth, 0.01);
  EXPECT_EQ(ours->config.dtype, DType::kF32);
  EXPECT_EQ(ours->config.rope.theta, 10000.0);
  const Result<ParsedConfig> llama = parse_config(R"({"model_type":"llama"})", "c");
  EXPECT_EQ(llama->config.vocab_size, 32000);
  EXPECT_EQ(llama->config.intermediate_size, 11008);
  EXPECT_EQ(good("qwen3", {{"head_dim", ""}}).head_dim, 128);
  EXPECT_EQ(good("qwen3", {{"head_dim", "null"}}).head_dim, 4);
  EXPECT_EQ(good("qwen2", {{"head_dim", ""}}).head_dim, 4);
}

TEST(Config, BiasesAndNormsFollowTheArchitecture) {
  EXPECT_TRUE(good("qwen2").qkv_bias);
  EXPECT_FALSE(good("qwen2").o_bias);
  EXPECT_TRUE(good("parscale_cross_attn").qkv_bias);
  EXPECT_FALSE(good("llama").qkv_bias);
  const ModelConfig llama = good("llama", {{"attention_bias", "true"}, {"mlp_bias", "true"}});
  EXPECT_TRUE(llama.qkv_bias && llama.o_bias && llama.mlp_bias);
  EXPECT_FALSE(good("qwen3").qkv_bias);
  EXPECT_TRUE(good("qwen3").qk_norm);
  EXPECT_FALSE(good("llama").qk_norm);
}

TEST(Config, ActivationsGoByAllTheirNames) {
  const auto activation = [](const char* name) {
    return good("qwen2", {{"hidden_act", std::string("\"") + name + "\""}}).activation;
  };
  EXPECT_EQ(activation("silu"), Activation::kSilu);
  EXPECT_EQ(activation("swish"), Activation::kSilu);
  EXPECT_EQ(activation("gelu"), Activation::kGelu);
  EXPECT_EQ(activation("gelu_new"), Activation::kGeluTanh);
  EXPECT_EQ(activation("gelu_pytorch_tanh"), Activation::kGeluTanh);
  EXPECT_EQ(activation("relu"), Activation::kRelu);
  EXPECT_EQ(activation("relu2"), Activation::kRelu2);
  EXPECT_EQ(activation("quick_gelu"), Activation::kQuickGelu);
  EXPECT_EQ(to_string(Activation::kGeluTanh), "gelu_pytorch_tanh");
}

TEST(Config, BothGenerationsOfRopeFieldsSayTheSame) {
  const std::string fields =
      R"("factor":8.0,"low_freq_factor":1.5,"high_freq_factor":4.5,"original_max_position_embeddings":64)";
  const ModelConfig older =
      good("llama",
           {{"rope_theta", "500000.0"}, {"rope_scaling", R"({"type":"llama3",)" + fields + "}"}});
  const ModelConfig newer =
      good("llama",
           {{"torch_dtype", ""},
            {"dtype", "\"bfloat16\""},
            {"rope_parameters", R"({"rope_type":"llama3","rope_theta":500000.0,)" + fields + "}"}});
  for (const ModelConfig& c : {older, newer}) {
    EXPECT_EQ(c.rope.kind, RopeKind::kLlama3);
    EXPECT_EQ(c.rope.theta, 500000.0);
    EXPECT_EQ(c.rope.factor, 8.0);
    EXPECT_EQ(c.rope.low_freq_factor, 1.5);
    EXPECT_EQ(c.rope.high_freq_factor, 4.5);
    EXPECT_EQ(c.rope.original_max_position, 64.0);
    EXPECT_EQ(c.dtype, DType::kBF16);
  }
}

TEST(Config, YarnFieldsAreRead) {
  const Rope rope =
      good(
          "qwen2",
          {{"rope_scaling",
            R"({"rope_type":"yarn","factor":4,"original_max_position_embeddings":128,"beta_fast":16,)"
            R"("beta_slow":2,"attention_factor":1.25,"mscale":0.7,"mscale_all_dim":0.6,"truncate":false})"}})
          .rope;
  EXPECT_EQ(rope.kind, RopeKind::kYarn);
  EXPECT_EQ(rope.factor, 4.0);
  EXPECT_EQ(rope.original_max_position, 128.0);
  EXPECT_EQ(rope.beta_fast, 16.0);
  EXPECT_EQ(rope.beta_slow, 2.0);
  EXPECT_EQ(rope.attention_factor, 1.25);
  EXPECT_EQ(rope.mscale, 0.7);
  EXPECT_EQ(rope.mscale_all_dim, 0.6);
  EXPECT_FALSE(rope.truncate);
  EXPECT_TRUE(good("qwen2", {{"rope_scaling", R"({"type":"yarn","factor":4})"}}).rope.truncate);
}

TEST(Config, RopeParametersWithoutTypeAreTheDefault) {
  const Rope rope = good("qwen2", {{"rope_parameters", R"({"rope_theta":1000000})"}}).rope;
  EXPECT_EQ(rope.kind, RopeKind::kDefault);
  EXPECT_EQ(rope.theta, 1e6);
}

TEST(Config, RopeParametersPerLayerTypeAreReadWhereTheyAgree) {
  const Rope rope =
      good("qwen3",
           {{"rope_parameters",
             R"({"full_attention":{"rope_type":"linear","factor":2,"rope_theta":5e5},)"
             R"("sliding_attention":{"rope_theta":500000,"factor":2.0,"rope_type":"linear"}})"}})
          .rope;
  EXPECT_EQ(rope.kind, RopeKind::kLinear);
  EXPECT_EQ(rope.factor, 2.0);
  EXPECT_EQ(rope.theta, 5e5);
}

TEST(Config, SlidingLayersFollowMaxWindowLayers) {
  const ModelConfig c =
      good("qwen2",
           {{"use_sliding_window", "true"}, {"sliding_window", "5"}, {"max_window_layers", "2"}});
  EXPECT_EQ(c.sliding_window, 5);
  EXPECT_EQ(c.sliding_layer, (std::vector<bool>{false, false, true}));
  const ModelConfig later =
      good("qwen2", {{"use_sliding_window", "true"}, {"sliding_window", "5"}});
  EXPECT_EQ(later.sliding_window, 0);  // max_window_layers is 28 by default
  EXPECT_EQ(
      good("qwen2", {{"use_sliding_window", "true"}, {"max_window_layers", "0"}}).sliding_window,
      4096);
  EXPECT_EQ(good("qwen3", {{"sliding_window", "5"}, {"max_window_layers", "0"}}).sliding_window, 0);
  EXPECT_EQ(
      good("qwen3",
           {{"use_sliding_window", "true"}, {"sliding_window", "null"}, {"max_window_layers", "0"}})
          .sliding_window,
      0);
}

TEST(Config, SlidingLayersFollowLayerTypes) {
  const ModelConfig c = good(
      "qwen3", {{"use_sliding_window", "true"},
                {"sliding_window", "5"},
                {"max_window_layers", "0"},
                {"layer_types", R"(["sliding_attention","full_attention","sliding_attention"])"}});
  EXPECT_EQ(c.sliding_layer, (std::vector<bool>{true, false, true}));
  EXPECT_EQ(c.sliding_window, 5);
}

TEST(Config, CrossLayersComeFromTheList) {
  const auto cross = [](const char* list) {
    return good("parscale_cross_attn",
                {{"enable_cross_attn", "true"}, {"parscale_cross_attn_layers", list}})
        .cross_layer;
  };
  EXPECT_EQ(cross("null"), (std::vector<bool>{true, true, true}));
  EXPECT_EQ(cross("[]"), (std::vector<bool>{false, false, false}));
  EXPECT_EQ(cross("[2,0,2]"), (std::vector<bool>{true, false, true}));
  EXPECT_EQ(cross("[true]"), (std::vector<bool>{false, true, false}));  // Python's True is 1
  EXPECT_EQ(good("parscale_cross_attn").cross_layer, (std::vector<bool>{false, false, false}));
}

TEST(Config, CrossKvIsSelectedByItsClass) {
  const ModelConfig c =
      good("parscale_cross_attn", {{"architectures", R"(["ParScaleCrossKVForCausalLM"])"},
                                   {"enable_cross_attn", "true"},
                                   {"xkv_causal", "true"},
                                   {"parscale_cross_attn_layers", "[1]"}});
  EXPECT_EQ(c.architecture, Architecture::kParScaleCrossKv);
  EXPECT_EQ(c.cross_kv_layer, (std::vector<bool>{false, true, false}));
  EXPECT_EQ(c.cross_layer, (std::vector<bool>{false, false, false}));
  EXPECT_TRUE(c.cross_kv_causal);
}

TEST(Config, CrossClassOnTheBaseConfigIsReadAsTheCrossType) {
  // Upstream's from_pretrained builds the base config for its cross class, and saves it so.
  const ParsedConfig config = parsed(
      "parscale_base",
      {{"architectures", R"(["ParScaleCrossAttnForCausalLM"])"}, {"enable_cross_attn", "true"}});
  EXPECT_EQ(config.config.architecture, Architecture::kParScaleCrossAttn);
  EXPECT_EQ(config.config.cross_layer, (std::vector<bool>{true, true, true}));
  ASSERT_EQ(config.issues.size(), 1u);
  EXPECT_FALSE(config.issues[0].error);
}

TEST(Config, TextThatIsNoConfigIsAnError) {
  for (const std::string text : {"", "[]", "{", "3", "{}", R"({"model_type":null})",
                                 R"({"model_type":"gpt2"})", R"({"model_type":["qwen2"]})"}) {
    const Result<ParsedConfig> config = parse_config(text, "config.json");
    ASSERT_FALSE(config.ok()) << text;
    EXPECT_EQ(config.error().kind, Error::Kind::kInput);
  }
  EXPECT_EQ(parse_config(R"({"model_type":"gpt2"})", "config.json").error().line(),
            "config.json: model_type: this model type is not supported: expected one of qwen2, "
            "llama, qwen3, qwen2_parscale, parscale_base, parscale_cross_attn, found \"gpt2\"");
}

TEST(Config, FirstErrorNamesFieldValueAndRule) {
  const TempDir dir;
  put_file(dir / "config.json", config_text("qwen2", {{"num_key_value_heads", "4"}}));
  const Result<ModelConfig> config = load_config(dir.path());
  ASSERT_FALSE(config.ok());
  EXPECT_EQ(
      config.error().line(),
      dir.path().string() + ": num_key_value_heads: must divide num_attention_heads (6): found 4");
  EXPECT_FALSE(load_config(dir / "absent").ok());
}

TEST(Config, EveryStoredModelLoads) {
  ASSERT_FALSE(model_dirs().empty());
  for (const auto& dir : model_dirs()) {
    const Result<ParsedConfig> config = read_config(dir);
    ASSERT_TRUE(config.ok()) << config.error().line();
    for (const ConfigIssue& issue : config->issues) {
      EXPECT_FALSE(issue.error) << dir << ": " << issue.field << " " << issue.rule;
      EXPECT_EQ(issue.field, "parscale_n_tokens") << dir;  // n = 1 with a prefix
    }
    EXPECT_EQ(config->config.json, get_file(dir / "config.json"));
  }
}

}  // namespace
}  // namespace ps
