// Faults planted in copies of a good model and a good trace, each found under its own name.
#include "diff/lint/lint.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/float_bits.h"
#include "tests/support/program.h"
#include "tests/support/raw_safetensors.h"
#include "tests/support/temp_dir.h"

namespace ps {
namespace {

namespace fs = std::filesystem;

bool keep(const std::string&, Tensor&) { return true; }
constexpr std::uint16_t kBf16Nan = 0x7fc0, kBf16Infinity = 0xff80;

Report linted(const Result<Report>& report) {
  EXPECT_TRUE(report.ok()) << (report.ok() ? "" : report.error().line());
  return report.ok() ? report.value() : Report{};
}

// "id point" of every finding, sorted.
std::vector<std::string> ids(const Report& report) {
  std::vector<std::string> out;
  for (const Finding& f : report.findings) out.push_back(f.id + " " + f.point);
  std::sort(out.begin(), out.end());
  return out;
}
using Ids = std::vector<std::string>;

class LintModel : public ::testing::Test {
 protected:
  Report lint(const EditTensor& edit, const std::map<std::string, Tensor>& more = {}) {
    copy_bytes_model(dir_.path(), edit, more);
    return linted(lint_model(dir_.path()));
  }
  Report lint_with_config(const std::function<void(nlohmann::json&)>& edit) {
    copy_bytes_model(dir_.path(), keep);
    auto config = nlohmann::json::parse(get_file(dir_ / "config.json"));
    edit(config);
    put_file(dir_ / "config.json", config.dump());
    return linted(lint_model(dir_.path()));
  }
  TempDir dir_;
};

TEST_F(LintModel, FixturesAreClean) {
  for (const fs::path& dir : model_dirs()) {
    const Report report = linted(lint_model(dir));
    for (const Finding& f : report.findings) {
      EXPECT_NE(f.severity, Severity::kError) << dir << ": " << f.id << " " << f.point;
    }
  }
  EXPECT_EQ(ids(lint(keep)), Ids{});
}

TEST_F(LintModel, MissingTensorIsAnError) {
  const Report report = lint(
      [](const std::string& name, Tensor&) { return name != "model.layers.2.mlp.up_proj.weight"; });
  EXPECT_EQ(ids(report), Ids{"weights-silently-missing model.layers.2.mlp.up_proj.weight"});
  EXPECT_EQ(exit_code(report), 1);
}

TEST_F(LintModel, WrongShapeNamesBothShapes) {
  const Report report = lint([](const std::string& name, Tensor& t) {
    if (name != "model.layers.1.self_attn.k_proj.weight") return true;
    t = Tensor(t.dtype(), {64, 127});
    t.as<std::uint16_t>()[5] = 0x3f80;  // not constant
    return true;
  });
  EXPECT_EQ(ids(report), Ids{"weights-shape model.layers.1.self_attn.k_proj.weight"});
  ASSERT_EQ(report.findings[0].evidence.size(), 2u);
  EXPECT_EQ(report.findings[0].evidence[0].second, "\"[64,128]\"");
  EXPECT_EQ(report.findings[0].evidence[1].second, "\"[64,127]\"");
  EXPECT_EQ(exit_code(report), 1);
}

TEST_F(LintModel, QuantisedWeightsAreAnError) {
  const Report report = lint([](const std::string& name, Tensor& t) {
    if (name == "model.norm.weight") t = Tensor(DType::kI8, t.shape());
    return true;
  });
  EXPECT_EQ(ids(report), Ids{"weights-dtype model.norm.weight"});
  EXPECT_EQ(exit_code(report), 1);
}

TEST_F(LintModel, NanInAPrefixIsAnUninitialisedPrefix) {
  const Report report = lint([](const std::string& name, Tensor& t) {
    if (name == "model.layers.3.self_attn.prefix_v") t.as<std::uint16_t>()[1037] = kBf16Nan;
    return true;
  });
  EXPECT_EQ(ids(report), Ids{"weights-prefix-uninitialised model.layers.3.self_attn.prefix_v"});
  EXPECT_EQ(report.findings[0].where, "element 1037 of [4,2,8,32]");
  EXPECT_EQ(exit_code(report), 1);
}

TEST_F(LintModel, InfinityAnywhereElseIsNonfinite) {
  const Report report = lint([](const std::string& name, Tensor& t) {
    if (name == "model.embed_tokens.weight") t.as<std::uint16_t>().back() = kBf16Infinity;
    return true;
  });
  EXPECT_EQ(ids(report), Ids{"weights-nonfinite model.embed_tokens.weight"});
  EXPECT_EQ(exit_code(report), 1);
}

TEST_F(LintModel, OneValueEverywhereIsAWarning) {
  const Report report = lint([](const std::string& name, Tensor& t) {
    if (name == "model.layers.0.self_attn.o_proj.weight") t = Tensor(t.dtype(), t.shape());
    if (name == "model.norm.weight") t = Tensor(t.dtype(), t.shape());  // a vector may be constant
    return true;
  });
  EXPECT_EQ(ids(report), Ids{"weights-constant model.layers.0.self_attn.o_proj.weight"});
  EXPECT_EQ(exit_code(report), 0);
}

TEST_F(LintModel, UnexpectedTensorIsAWarning) {
  const Report report =
      lint(keep, {{"model.layers.4.mlp.up_proj.weight", Tensor(DType::kF32, {3})}});
  EXPECT_EQ(ids(report), Ids{"weights-unexpected model.layers.4.mlp.up_proj.weight"});
  EXPECT_EQ(report.findings[0].severity, Severity::kWarning);
  EXPECT_EQ(exit_code(report), 0);
}

TEST_F(LintModel, HeadOfATiedModelMustBeTheEmbedding) {
  Tensor head;
  const EditTensor find = [&](const std::string& name, Tensor& t) {
    if (name == "model.embed_tokens.weight") head = t;
    return true;
  };
  lint(find);
  EXPECT_EQ(ids(lint(keep, {{"lm_head.weight", head}})), Ids{});
  head.as<std::uint16_t>()[301] ^= 1;
  const Report report = lint(keep, {{"lm_head.weight", head}});
  EXPECT_EQ(ids(report), Ids{"weights-lm-head-wrongly-tied lm_head.weight"});
  EXPECT_EQ(exit_code(report), 1);
}

TEST_F(LintModel, UntiedModelWithoutAHeadIsAnError) {
  const Report report =
      lint_with_config([](nlohmann::json& c) { c["tie_word_embeddings"] = false; });
  EXPECT_EQ(ids(report), Ids{"weights-lm-head-missing-or-untied lm_head.weight"});
  EXPECT_EQ(exit_code(report), 1);
}

TEST_F(LintModel, DroppedKvHeadsAreNamed) {
  const Report report = lint_with_config([](nlohmann::json& c) { c.erase("num_key_value_heads"); });
  ASSERT_EQ(report.findings.size(), 1u);
  EXPECT_EQ(report.findings[0].id, "weights-kv-heads-default");
  EXPECT_EQ(report.findings[0].fault_class, "config");
  EXPECT_EQ(report.findings[0].point, "config.json");
  EXPECT_EQ(report.findings[0].where, "num_key_value_heads");
  EXPECT_EQ(exit_code(report), 1);
}

TEST_F(LintModel, OtherKvHeadsAreNamedBeforeEveryTensorTheyShape) {
  const Report report = lint_with_config([](nlohmann::json& c) { c["num_key_value_heads"] = 4; });
  ASSERT_EQ(report.findings.size(), 1 + 4u * 6u);  // k and v: weight, bias, prefix, in 4 layers
  EXPECT_EQ(report.findings[0].id, "weights-kv-heads-default");
  EXPECT_EQ(report.findings[0].fix, "set num_key_value_heads to 2");
  for (std::size_t i = 1; i < report.findings.size(); ++i) {
    const Finding& f = report.findings[i];
    EXPECT_EQ(f.id, "weights-shape") << f.point;
    if (!f.point.ends_with(".prefix_k")) continue;
    EXPECT_EQ(f.fix, "num_key_value_heads is 4 in the config, 2 here");
  }
}

TEST_F(LintModel, BrokenRulesAreFindingsWithFieldAndValue) {
  const Report report = lint_with_config([](nlohmann::json& c) { c["rms_norm_eps"] = -1; });
  EXPECT_EQ(exit_code(report), 1);
  EXPECT_TRUE(std::any_of(report.findings.begin(), report.findings.end(), [](const Finding& f) {
    return f.where == "rms_norm_eps" && f.severity == Severity::kError && f.evidence.size() == 1 &&
           f.evidence[0].second == "-1";
  }));
}

TEST_F(LintModel, BrokenRulesAreFindingsEvenWithoutWeights) {
  copy_bytes_model(dir_.path(), keep);
  fs::remove(dir_ / "model.safetensors");
  EXPECT_FALSE(lint_model(dir_.path()).ok());
  auto config = nlohmann::json::parse(get_file(dir_ / "config.json"));
  config["num_attention_heads"] = 3;
  put_file(dir_ / "config.json", config.dump());
  const Report report = linted(lint_model(dir_.path()));
  EXPECT_EQ(exit_code(report), 1);
  ASSERT_FALSE(report.findings.empty());
  EXPECT_EQ(report.findings.back().id, "weights-not-checked");
}

TEST_F(LintModel, RulesBrokenElsewhereAreBadInput) {
  copy_bytes_model(dir_.path(), keep);
  auto config = nlohmann::json::parse(get_file(dir_ / "config.json"));
  config.erase("num_key_value_heads");
  put_file(dir_ / "config.json", config.dump());
  const Ran lint = run_parscope({"lint", dir_.path()});
  EXPECT_EQ(lint.code, 1);
  EXPECT_EQ(lint.err, "");
  for (const char* words : {"1 error", "weights-kv-heads-default", "num_key_value_heads"}) {
    EXPECT_NE(lint.out.find(words), std::string::npos) << words << "\n" << lint.out;
  }
  expect_bad_input(run_parscope({"generate", dir_.path(), "--prompt", "x"}), "num_key_value_heads");
}

// A trace with the shapes of the byte-level model: P=4, T=8, K=2, D=32, past=0, B=2, S=5.
class LintTrace : public ::testing::Test {
 protected:
  using Tensors = std::map<std::string, Tensor>;

  static Tensors good() {
    Tensors out;
    const std::vector<std::int64_t> ids = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
    out["input_ids"] = Tensor::of<std::int64_t>(DType::kI64, {2, 5}, ids);
    out["model.embed_tokens"] = Tensor(DType::kF32, {2, 5, 128});
    Tensor mask(DType::kBool, {1, 1, 5, 13});
    for (std::size_t q = 0; q < 5; ++q) {
      for (std::size_t j = 0; j <= 8 + q; ++j) mask.bytes()[q * 13 + j] = std::byte{1};
    }
    out["model:mask"] = mask;
    out["model.layers.0.self_attn:k_cache"] = Tensor(DType::kF32, {8, 2, 13, 32});
    out["model.layers.3"] = Tensor(DType::kF32, {8, 5, 128});
    out["lm_head"] = Tensor(DType::kF32, {2, 5, 256});
    return out;
  }
  void write(const Tensors& tensors, const std::string& more = "", bool with_model = true) {
    const char* file = "step-00000.rank-00000.safetensors";
    Result<SafetensorsWriter> writer = SafetensorsWriter::create(dir_ / file);
    ASSERT_TRUE(writer.ok());
    for (const auto& [name, tensor] : tensors) {
      ASSERT_TRUE(writer->add(name, tensor.view()).ok());
    }
    ASSERT_TRUE(writer->close().ok());
    const std::string model =
        with_model ? "\"model\":" + get_file(bytes_model() / "config.json") + "," : "";
    put_file(dir_ / "trace.json", R"({"format":"parscope-trace/1",)" + model + more +
                                      R"("steps":[{"step":0,"rank":0,"file":")" + file + "\"}]}");
  }
  Report lint(const Tensors& tensors) {
    write(tensors);
    return linted(lint_trace(dir_.path(), std::nullopt));
  }
  TempDir dir_;
};

TEST_F(LintTrace, GoodTraceIsClean) { EXPECT_EQ(ids(lint(good())), Ids{}); }

TEST_F(LintTrace, WrongAxisIsNamedWithItsMeaning) {
  Tensors t = good();
  t["model.layers.3"] = Tensor(DType::kF32, {8, 5, 127});
  const Report report = lint(t);
  EXPECT_EQ(ids(report), Ids{"shape model.layers.3"});
  EXPECT_NE(report.findings[0].message.find("axis 2"), std::string::npos);
  EXPECT_NE(report.findings[0].message.find("128 expected, 127 found"), std::string::npos);
  EXPECT_EQ(exit_code(report), 1);
}

TEST_F(LintTrace, CacheWithoutItsPrefixIsNamed) {
  Tensors t = good();
  t["model.layers.0.self_attn:k_cache"] = Tensor(DType::kF32, {8, 2, 5, 32});
  EXPECT_EQ(ids(lint(t)), Ids{"cache-prefix-never-prepended model.layers.0.self_attn:k_cache"});
  Tensor twice(DType::kF32, {8, 2, 21, 32});
  t["model.layers.0.self_attn:k_cache"] = twice;  // zeros are no prefix
  EXPECT_EQ(ids(lint(t)), Ids{"TP040 model.layers.0.self_attn:k_cache"});
  for (float& x : twice.as<float>()) x = 1;
  t["model.layers.0.self_attn:k_cache"] = twice;
  EXPECT_EQ(ids(lint(t)), Ids{"cache-length-includes-prefix model.layers.0.self_attn:k_cache"});
  t["model.layers.0.self_attn:k_cache"] = Tensor(DType::kF32, {8, 2, 12, 32});
  EXPECT_EQ(ids(lint(t)), Ids{"TP040 model.layers.0.self_attn:k_cache"});
  t["model.layers.0.self_attn:k_cache"] = Tensor(DType::kF32, {8, 13, 32});
  EXPECT_EQ(ids(lint(t)), Ids{"cache-shape model.layers.0.self_attn:k_cache"});
}

TEST_F(LintTrace, MaskThatIsNotBooleanIsMK028) {
  Tensors t = good();
  t["model:mask"] = Tensor(DType::kF32, {1, 1, 5, 13});
  const Report report = lint(t);
  EXPECT_EQ(ids(report), Ids{"MK028 model:mask"});
  EXPECT_EQ(exit_code(report), 1);
}

TEST_F(LintTrace, ValuesThatAreNotFiniteAreAWarning) {
  Tensors t = good();
  t["lm_head"].as<float>()[77] = std::numeric_limits<float>::quiet_NaN();
  t["lm_head"].as<float>()[78] = -std::numeric_limits<float>::infinity();
  const Report report = lint(t);
  EXPECT_EQ(ids(report), Ids{"nonfinite lm_head"});
  EXPECT_EQ(report.findings[0].message, "1 NaN and 1 infinite values of 2560");
  EXPECT_EQ(report.findings[0].where, "first at element 77 of [2,5,256]");
  EXPECT_EQ(exit_code(report), 0);
}

TEST_F(LintTrace, UnknownNamesAreListedAndNeverWrong) {
  Tensors t = good();
  t["my.own.thing"] = Tensor(DType::kF32, {3});
  const Report report = lint(t);
  EXPECT_EQ(ids(report), Ids{"unmatched-point my.own.thing"});
  EXPECT_EQ(report.findings[0].severity, Severity::kInfo);
  EXPECT_EQ(exit_code(report), 0);
}

TEST_F(LintTrace, ACheckpointInPlaceOfATraceIsSaid) {
  const Report report = linted(lint_trace(bytes_model() / "model.safetensors", std::nullopt));
  ASSERT_FALSE(report.findings.empty());
  EXPECT_EQ(report.findings[0].id, "no-known-point");
  EXPECT_EQ(exit_code(report), 0);
  Tensors t;
  t["grad/model.norm.weight"] = Tensor(DType::kF32, {128});
  write(t, "", false);
  EXPECT_EQ(ids(linted(lint_trace(dir_.path(), std::nullopt))), Ids{});
}

TEST_F(LintTrace, PointsOfAnotherKindOfModelAreAWarning) {
  Tensors t = good();
  t["model.layers.0.self_attn.q_norm"] = Tensor(DType::kF32, {8, 5, 4, 32});
  EXPECT_EQ(ids(lint(t)), Ids{"replica-wrong-flag model.layers.0.self_attn.q_norm"});
  t.erase("model.layers.0.self_attn.q_norm");
  t["model.layers.4.mlp:act"] = Tensor(DType::kF32, {8, 5, 352});
  EXPECT_EQ(ids(lint(t)), Ids{"replica-wrong-flag model.layers.4.mlp:act"});
}

TEST_F(LintTrace, InputsThatDoNotFitAreAnError) {
  Tensors t = good();
  t["attention_mask"] = Tensor(DType::kI64, {2, 6});
  const Report report = lint(t);
  EXPECT_EQ(ids(report), Ids{"inputs input_ids"});
  EXPECT_EQ(exit_code(report), 1);
}

TEST_F(LintTrace, ConfigInTheTraceIsHeldToTheSameRules) {
  write(good(), R"("model":{"model_type":"qwen2","vocab_size":256,"hidden_size":-3},)", false);
  const Report report = linted(lint_trace(dir_.path(), std::nullopt));
  EXPECT_EQ(exit_code(report), 1);
  EXPECT_TRUE(std::any_of(report.findings.begin(), report.findings.end(), [](const Finding& f) {
    return f.point == "trace.json/model" && f.where == "hidden_size" && f.fault_class == "config";
  }));
}

TEST_F(LintTrace, ModelFromTheCommandLineGivesTheShapes) {
  Tensors t = good();
  t["model.layers.3"] = Tensor(DType::kF32, {8, 5, 127});
  write(t, "", false);
  EXPECT_EQ(ids(linted(lint_trace(dir_.path(), std::nullopt))), Ids{});
  EXPECT_EQ(ids(linted(lint_trace(dir_.path(), bytes_model()))), Ids{"shape model.layers.3"});
  EXPECT_EQ(run_parscope({"lint", dir_.path(), "--model", bytes_model()}).code, 1);
  expect_bad_input(run_parscope({"lint", dir_.path(), "--model", "/nowhere"}), "/nowhere");
}

TEST_F(LintTrace, ShapesOfShardedRunsAreNotHeldToTheTable) {
  Tensors t = good();
  t["model.layers.3"] = Tensor(DType::kF32, {8, 5, 64});
  write(t, R"("world_size":2,"tensor_parallel":2,)");
  // But a rank caches its own heads: 1 of 2.
  EXPECT_EQ(ids(linted(lint_trace(dir_.path(), std::nullopt))),
            Ids{"TP042 model.layers.0.self_attn:k_cache"});
  t["model.layers.0.self_attn:k_cache"] = Tensor(DType::kF32, {8, 1, 13, 32});
  write(t, R"("world_size":2,"tensor_parallel":2,)");
  EXPECT_EQ(ids(linted(lint_trace(dir_.path(), std::nullopt))), Ids{});
}

TEST_F(LintTrace, TheManifestStandsForItsFolder) {
  Tensors t = good();
  t["model.layers.3"] = Tensor(DType::kF32, {8, 5, 127});
  write(t);
  EXPECT_EQ(run_parscope({"lint", dir_ / "trace.json"}).code, 1);
  EXPECT_EQ(run_parscope({"lint", bytes_model() / "config.json"}).code, 0);
}

}  // namespace
}  // namespace ps
