#include "core/checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/config_text.h"
#include "tests/support/fixtures.h"
#include "tests/support/raw_safetensors.h"
#include "tests/support/small_checkpoint.h"
#include "tests/support/temp_dir.h"

namespace ps {
namespace {

ModelConfig config_of(std::string_view type, const std::vector<ConfigChange>& changes = {}) {
  Result<ParsedConfig> parsed = parse_config(config_text(type, changes), "config.json");
  EXPECT_TRUE(parsed.ok());
  Result<ModelConfig> config = first_error_or_config(std::move(parsed).value(), "config.json");
  EXPECT_TRUE(config.ok()) << config.error().line();
  return std::move(config).value();
}

std::map<std::string, Shape> weights_of(const ModelConfig& config) {
  std::map<std::string, Shape> weights;
  for (const WeightSpec& spec : expected_weights(config)) {
    EXPECT_TRUE(weights.emplace(spec.name, spec.shape).second) << spec.name;
  }
  return weights;
}

bool all(std::string_view) { return true; }

std::string listed(const std::vector<CheckpointIssue>& issues) {
  std::string out;
  for (const CheckpointIssue& i : issues) {
    out += std::string(i.error ? "error " : "warning ") + i.tensor + " " + i.message + " [" +
           i.expected + "] [" + i.found + "]\n";
  }
  return out;
}

// hidden 24, intermediate 40, 6 heads of 8, 2 kv heads, vocabulary 97, n 5, T 7.
TEST(ExpectedWeights, QwenHasBiasesOnTheProjectionsOfQueriesKeysAndValuesAlone) {
  const auto w = weights_of(config_of("qwen2"));
  EXPECT_EQ(w.at("model.embed_tokens.weight"), (Shape{97, 24}));
  EXPECT_EQ(w.at("model.layers.2.self_attn.q_proj.weight"), (Shape{48, 24}));
  EXPECT_EQ(w.at("model.layers.2.self_attn.q_proj.bias"), (Shape{48}));
  EXPECT_EQ(w.at("model.layers.0.self_attn.k_proj.weight"), (Shape{16, 24}));
  EXPECT_EQ(w.at("model.layers.0.self_attn.v_proj.bias"), (Shape{16}));
  EXPECT_EQ(w.at("model.layers.0.self_attn.o_proj.weight"), (Shape{24, 48}));
  EXPECT_EQ(w.at("model.layers.0.mlp.down_proj.weight"), (Shape{24, 40}));
  EXPECT_EQ(w.at("model.layers.0.mlp.up_proj.weight"), (Shape{40, 24}));
  EXPECT_EQ(w.at("lm_head.weight"), (Shape{97, 24}));
  EXPECT_FALSE(w.contains("model.layers.0.self_attn.o_proj.bias"));
  EXPECT_FALSE(w.contains("model.layers.3.self_attn.q_proj.weight"));
  EXPECT_EQ(w.size(), 3u + 3 * 12);
}

TEST(ExpectedWeights, LlamaHasTheBiasesThatItsConfigAsksFor) {
  EXPECT_EQ(weights_of(config_of("llama")).size(), 3u + 3 * 9);
  const auto w = weights_of(config_of("llama", {{"attention_bias", "true"}, {"mlp_bias", "true"}}));
  EXPECT_EQ(w.at("model.layers.1.self_attn.o_proj.bias"), (Shape{24}));
  EXPECT_EQ(w.at("model.layers.1.mlp.gate_proj.bias"), (Shape{40}));
  EXPECT_EQ(w.size(), 3u + 3 * 16);
}

TEST(ExpectedWeights, QwenThreeHasNormsOfHeads) {
  const auto w = weights_of(config_of("qwen3"));
  EXPECT_EQ(w.at("model.layers.1.self_attn.q_norm.weight"), (Shape{8}));
  EXPECT_EQ(w.at("model.layers.1.self_attn.k_norm.weight"), (Shape{8}));
  EXPECT_FALSE(w.contains("model.layers.1.self_attn.q_proj.bias"));
  EXPECT_TRUE(weights_of(config_of("qwen3", {{"attention_bias", "true"}}))
                  .contains("model.layers.1.self_attn.o_proj.bias"));
}

TEST(ExpectedWeights, ParScaleHasPrefixAndAggregatorOnlyForSeveralReplicas) {
  const auto w = weights_of(config_of("qwen2_parscale"));
  EXPECT_EQ(w.at("model.layers.0.self_attn.prefix_k"), (Shape{5, 2, 7, 8}));
  EXPECT_EQ(w.at("model.layers.2.self_attn.prefix_v"), (Shape{5, 2, 7, 8}));
  EXPECT_EQ(w.at("model.aggregate_layer.0.weight"), (Shape{24, 120}));
  EXPECT_EQ(w.at("model.aggregate_layer.0.bias"), (Shape{24}));
  EXPECT_EQ(w.at("model.aggregate_layer.2.weight"), (Shape{5, 24}));
  EXPECT_EQ(w.at("model.aggregate_layer.2.bias"), (Shape{5}));
  const auto one = weights_of(config_of("qwen2_parscale", {{"parscale_n", "1"}}));
  EXPECT_EQ(one.size(), 3u + 3 * 12);
  const auto empty = weights_of(config_of("qwen2_parscale", {{"parscale_n_tokens", "0"}}));
  EXPECT_EQ(empty.at("model.layers.0.self_attn.prefix_k"), (Shape{5, 2, 0, 8}));
}

TEST(ExpectedWeights, XattnHasAPrefixWhereItHasTokensAndAnAggregatorForSeveralReplicas) {
  const auto one = weights_of(config_of("parscale_base", {{"parscale_n", "1"}}));
  EXPECT_EQ(one.at("model.layers.0.self_attn.prefix_k"), (Shape{1, 2, 7, 8}));
  EXPECT_FALSE(one.contains("model.aggregate_layer.0.weight"));
  const auto none = weights_of(config_of("parscale_base", {{"parscale_n_tokens", "0"}}));
  EXPECT_FALSE(none.contains("model.layers.0.self_attn.prefix_k"));
  EXPECT_TRUE(none.contains("model.aggregate_layer.0.weight"));
}

TEST(ExpectedWeights, CrossLayersHaveHeadsOfHiddenOverHeads) {
  const auto w =
      weights_of(config_of("parscale_cross_attn",
                           {{"enable_cross_attn", "true"}, {"parscale_cross_attn_layers", "[1]"}}));
  EXPECT_EQ(w.at("model.layers.1.cross_replica_layernorm.weight"), (Shape{24}));
  EXPECT_EQ(w.at("model.layers.1.cross_replica_attn.q_proj.weight"), (Shape{24, 24}));
  EXPECT_EQ(w.at("model.layers.1.cross_replica_attn.k_proj.weight"), (Shape{8, 24}));
  EXPECT_EQ(w.at("model.layers.1.cross_replica_attn.v_proj.bias"), (Shape{8}));
  EXPECT_EQ(w.at("model.layers.1.cross_replica_attn.o_proj.weight"), (Shape{24, 24}));
  EXPECT_FALSE(w.contains("model.layers.1.cross_replica_attn.o_proj.bias"));
  EXPECT_FALSE(w.contains("model.layers.0.cross_replica_layernorm.weight"));
}

TEST(ExpectedWeights, CrossKvLayersHaveNoPrefix) {
  const auto w = weights_of(
      config_of("parscale_cross_attn", {{"architectures", R"(["ParScaleCrossKVForCausalLM"])"},
                                        {"enable_cross_attn", "true"},
                                        {"xkv_causal", "true"},
                                        {"parscale_cross_attn_layers", "[1]"}}));
  EXPECT_TRUE(w.contains("model.layers.0.self_attn.prefix_k"));
  EXPECT_FALSE(w.contains("model.layers.1.self_attn.prefix_k"));
  EXPECT_FALSE(w.contains("model.layers.1.cross_replica_layernorm.weight"));
}

TEST(ExpectedWeights, TiedHeadIsNotAWeight) {
  EXPECT_FALSE(
      weights_of(config_of("qwen2", {{"tie_word_embeddings", "true"}})).contains("lm_head.weight"));
}

TEST(Checkpoint, EveryStoredModelIsWhatItsConfigAsksFor) {
  ASSERT_FALSE(model_dirs().empty());
  for (const auto& dir : model_dirs()) {
    const Result<Model> model = open_model(dir);
    ASSERT_TRUE(model.ok()) << model.error().line();
    EXPECT_EQ(listed(model->checkpoint->compare(model->config)), "") << dir;
    EXPECT_EQ(model->checkpoint->dir(), dir);
  }
}

TEST(Checkpoint, LedgerTellsWhatWasNeverRead) {
  const TempDir dir;
  const ModelConfig config = config_of("qwen2", {{"num_hidden_layers", "1"}});
  write_model(dir.path(), config);
  const Result<Model> model = open_model(dir.path());
  ASSERT_TRUE(model.ok()) << model.error().line();
  const Checkpoint& checkpoint = *model->checkpoint;
  EXPECT_EQ(checkpoint.never_read(), checkpoint.names());  // comparing is not reading
  EXPECT_NE(checkpoint.peek("model.norm.weight"), nullptr);
  EXPECT_EQ(checkpoint.never_read().size(), 15u);
  EXPECT_NE(checkpoint.find("model.norm.weight"), nullptr);
  EXPECT_EQ(checkpoint.find("absent"), nullptr);
  EXPECT_EQ(checkpoint.never_read().size(), 14u);
  const std::vector<std::string> left = checkpoint.never_read();
  EXPECT_EQ(std::count(left.begin(), left.end(), "model.norm.weight"), 0);
}

TEST(Checkpoint, MissingWrongAndUnexpectedTensorsAreNamed) {
  const TempDir dir;
  const ModelConfig config = config_of("qwen2", {{"num_hidden_layers", "1"}});
  put_file(dir / "config.json", config.json);
  Result<SafetensorsWriter> writer = SafetensorsWriter::create(dir / "model.safetensors");
  ASSERT_TRUE(writer.ok());
  for (const WeightSpec& spec : expected_weights(config)) {
    Tensor tensor = random_tensor(spec.shape, 1);
    if (spec.name == "lm_head.weight") continue;
    if (spec.name == "model.norm.weight") tensor = Tensor(DType::kF32, {25});
    if (spec.name.ends_with("up_proj.weight")) tensor = Tensor(DType::kI8, spec.shape);
    if (spec.name.ends_with("gate_proj.weight")) tensor = Tensor(DType::kF8E4M3, spec.shape);
    if (spec.name.ends_with("down_proj.weight")) tensor = Tensor(DType::kF16, spec.shape);
    ASSERT_TRUE(writer->add(spec.name, tensor.view()).ok());
  }
  const Tensor extra(DType::kF32, {3, 2});
  ASSERT_TRUE(writer->add("model.layers.1.mlp.extra", extra.view()).ok());
  ASSERT_TRUE(writer->add("model.layers.0.self_attn.rotary_emb.inv_freq", extra.view()).ok());
  ASSERT_TRUE(writer->close().ok());

  const auto checkpoint = Checkpoint::open(dir.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.error().line();
  EXPECT_EQ(listed((*checkpoint)->compare(config)),
            "error model.layers.0.mlp.gate_proj.weight quantised weights (float8) are not "
            "supported [F64, F32, F16 or BF16] [F8_E4M3]\n"
            "error model.layers.0.mlp.up_proj.weight weights must be floating; quantised weights "
            "are not supported [F64, F32, F16 or BF16] [I8]\n"
            "error model.norm.weight has another shape than the config asks for [[24]] [[25]]\n"
            "error lm_head.weight missing: the config asks for it, for tie_word_embeddings is "
            "false [[97,24]] []\n"
            "warning model.layers.1.mlp.extra nothing in the config asks for it; it will not be "
            "read [] [[3,2]]\n");
  const Result<Model> model = open_model(dir.path());
  ASSERT_FALSE(model.ok());
  EXPECT_EQ(model.error().line(),
            dir.path().string() +
                ": model.layers.0.mlp.gate_proj.weight: quantised weights (float8) are not "
                "supported (and 3 more such problems): expected F64, F32, F16 or BF16, found "
                "F8_E4M3");
}

TEST(Checkpoint, TiedHeadMayBeThereWhenItIsTheEmbedding) {
  const ModelConfig config = config_of("qwen2", {{"tie_word_embeddings", "true"}});
  for (const bool same : {true, false}) {
    const TempDir dir;
    Result<SafetensorsWriter> writer = SafetensorsWriter::create(dir / "model.safetensors");
    std::uint64_t stream = 0;
    for (const WeightSpec& spec : expected_weights(config)) {
      const Tensor tensor = random_tensor(spec.shape, stream++);
      ASSERT_TRUE(writer->add(spec.name, tensor.view()).ok());
    }
    const Tensor head = random_tensor({97, 24}, same ? 0 : 99);
    ASSERT_TRUE(writer->add("lm_head.weight", head.view()).ok());
    ASSERT_TRUE(writer->close().ok());
    const auto checkpoint = Checkpoint::open(dir.path());
    const std::vector<CheckpointIssue> issues = (*checkpoint)->compare(config);
    ASSERT_EQ(issues.empty(), same) << listed(issues);
    if (!same) {
      EXPECT_EQ(issues[0].kind, CheckpointIssue::Kind::kTiedDiffers);
    }
  }
}

TEST(Checkpoint, EmptyPrefixTensorsMayBeLeftOut) {
  const TempDir dir;
  const ModelConfig config = config_of("qwen2_parscale", {{"parscale_n_tokens", "0"}});
  write_weights(dir / "model.safetensors", config, [](std::string_view name) {
    return name.find("prefix") == std::string_view::npos;
  });
  const auto checkpoint = Checkpoint::open(dir.path());
  EXPECT_EQ(listed((*checkpoint)->compare(config)), "");
}

class Sharded : public testing::Test {
 protected:
  void SetUp() override {
    put_file(dir / "config.json", config.json);
    write_weights(dir / "one.safetensors", config, in_first);
    write_weights(dir / "two.safetensors", config,
                  [](std::string_view name) { return !in_first(name); });
  }
  static bool in_first(std::string_view name) { return name.find("mlp") != std::string_view::npos; }
  void write_index(const std::string& extra = "", std::string_view second = "two.safetensors") {
    std::string text = R"({"metadata":{"total_size":1},"weight_map":{)" + extra;
    std::string separator;
    for (const WeightSpec& spec : expected_weights(config)) {
      text += separator + "\"" + spec.name + "\":\"" +
              (in_first(spec.name) ? "one.safetensors" : std::string(second)) + "\"";
      separator = ",";
    }
    put_file(dir / "model.safetensors.index.json", text + "}}");
  }
  std::string error() const {
    const auto checkpoint = Checkpoint::open(dir.path());
    return checkpoint.ok() ? "no error" : checkpoint.error().line();
  }

  const TempDir dir;
  const ModelConfig config = config_of("qwen2", {{"num_hidden_layers", "1"}});
};

TEST_F(Sharded, ShardsAreOneCheckpoint) {
  write_index();
  EXPECT_EQ(error(), "no error");
  EXPECT_TRUE(open_model(dir.path()).ok());
  EXPECT_TRUE(open_model(dir.path() / "").ok());  // a path with a slash at its end
}

TEST_F(Sharded, MissingShardIsNamed) {
  write_index();
  std::filesystem::remove(dir / "two.safetensors");
  EXPECT_NE(error().find("the shard \"two.safetensors\" is missing"), std::string::npos) << error();
}

TEST_F(Sharded, TensorThatItsShardLacksIsNamed) {
  write_index(R"("ghost":"one.safetensors",)");
  EXPECT_NE(error().find("weight_map names tensor \"ghost\", which the shard lacks: expected "
                         "one.safetensors, found no shard has it"),
            std::string::npos)
      << error();
  std::filesystem::copy_file(dir / "two.safetensors", dir / "three.safetensors");
  write_weights(dir / "three.safetensors", config, [](std::string_view) { return false; });
  write_index(R"("x":"two.safetensors",)", "three.safetensors");
  EXPECT_NE(error().find("which the shard lacks: expected"), std::string::npos) << error();
}

TEST_F(Sharded, TensorInTwoShardsIsNamed) {
  write_index();
  write_weights(dir / "two.safetensors", config, all);
  EXPECT_NE(error().find("only one shard may hold it"), std::string::npos) << error();
}

TEST_F(Sharded, PathsOutOfTheDirectoryAreRejected) {
  for (const char* path : {"../two.safetensors", "/etc/passwd", "a/../../b", "", ".", "sub/"}) {
    write_index(std::string("\"x\":\"") + path + "\",");
    EXPECT_NE(error(), "no error") << path;
    EXPECT_EQ(error().find("cannot be opened"), std::string::npos) << path << error();
  }
}

TEST_F(Sharded, BadIndexesAreErrors) {
  for (const char* text : {"", "[]", "{}", R"({"weight_map":[]})", R"({"weight_map":{"a":1}})",
                           R"({"weight_map":{"a":"x","a":"y"}})"}) {
    put_file(dir / "model.safetensors.index.json", text);
    EXPECT_NE(error(), "no error") << text;
  }
}

TEST_F(Sharded, SingleFileOfWeightsWinsOverTheIndex) {
  put_file(dir / "model.safetensors.index.json", "not JSON");
  write_weights(dir / "model.safetensors", config, all);
  EXPECT_EQ(error(), "no error");
}

TEST_F(Sharded, SeveralFilesWithoutAnIndexAreAnError) {
  EXPECT_NE(error().find("found 2 *.safetensors files"), std::string::npos) << error();
  std::filesystem::remove(dir / "two.safetensors");
  EXPECT_EQ(error(), "no error");  // the only one, whatever its name
  std::filesystem::remove(dir / "one.safetensors");
  EXPECT_NE(error().find("has no weights"), std::string::npos) << error();
}

TEST(Checkpoint, PlacesThatAreNoDirectoryAreErrors) {
  const TempDir dir;
  put_file(dir / "file", "x");
  EXPECT_FALSE(Checkpoint::open(dir / "absent").ok());
  EXPECT_FALSE(Checkpoint::open(dir / "file").ok());
  put_file(dir / "model.safetensors", "cut");
  EXPECT_FALSE(Checkpoint::open(dir.path()).ok());
}

}  // namespace
}  // namespace ps
