// What the numbers and shapes of a checkpoint give away without running it: each planted in a copy
// of the trained byte-level model (P=4, T=8, H=4, K=2, D=32, h=128), which has none of them. Seen
// red: kurtosis not looked at, fresh weights reported where all are fresh, a prefix compared with
// half of itself.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/float_bits.h"
#include "core/rng.h"
#include "diff/lint/lint.h"
#include "tests/support/program.h"

namespace ps {
namespace {

namespace fs = std::filesystem;
using Ids = std::vector<std::string>;

bool keep(const std::string&, Tensor&) { return true; }

class LintWeights : public ::testing::Test {
 protected:
  Ids lint(
      const EditTensor& edit, const std::map<std::string, Tensor>& more = {},
      const std::function<void(nlohmann::json&)>& config = [](nlohmann::json&) {}) {
    copy_bytes_model(dir_.path(), edit, more);
    auto json = nlohmann::json::parse(get_file(dir_ / "config.json"));
    config(json);
    put_file(dir_ / "config.json", json.dump());
    return lint_dir(dir_.path());
  }
  Ids lint_dir(const fs::path& dir) {
    const Result<Report> report = lint_model(dir);
    EXPECT_TRUE(report.ok()) << (report.ok() ? "" : report.error().line());
    Ids out;
    if (!report.ok()) return out;
    report_ = *report;
    for (const Finding& f : report_.findings) out.push_back(f.id + " " + f.point);
    return out;
  }
  // One tensor of the model, overwritten.
  Ids lint_with(const std::string& changed, const std::function<double(std::int64_t)>& value) {
    return lint([&](const std::string& name, Tensor& t) {
      if (name == changed) fill(t, value);
      return true;
    });
  }
  static void fill(Tensor& t, const std::function<double(std::int64_t)>& value) {
    ASSERT_EQ(t.dtype(), DType::kBF16);
    for (std::int64_t i = 0; i < count_of(t.shape()); ++i) {
      t.as<std::uint16_t>()[static_cast<std::size_t>(i)] =
          float_to_bf16(static_cast<float>(value(i)));
    }
  }
  TempDir dir_;
  Report report_;
};

double normal(std::int64_t i) { return Rng(17, 0).normal(static_cast<std::uint64_t>(i)); }
double uniform(std::int64_t i) { return 2 * Rng(19, 0).uniform(static_cast<std::uint64_t>(i)) - 1; }

constexpr const char* kQ = "model.layers.2.self_attn.q_proj.weight";  // [128,128]

TEST_F(LintWeights, TrainedModelsHaveNone) {
  for (const char* model : {"parscale-bytes", "cross-attn-bytes"}) {
    EXPECT_EQ(lint_dir(fixtures_dir() / "models" / model), Ids{}) << model;
  }
}

TEST_F(LintWeights, FreshMatrixAmongTrainedOnes) {
  EXPECT_EQ(lint_with(kQ, [](std::int64_t i) { return 0.02 * normal(i); }),
            Ids{"weights-silently-missing " + std::string(kQ)});
  EXPECT_NE(report_.findings[0].message.find("normal with spread 0.02"), std::string::npos);
  EXPECT_EQ(report_.findings[0].severity, Severity::kWarning);
  EXPECT_EQ(lint_with(kQ, [](std::int64_t i) { return uniform(i) / std::sqrt(128.0); }),
            Ids{"weights-silently-missing " + std::string(kQ)});
  EXPECT_NE(report_.findings[0].message.find("uniform up to 1 / sqrt(128)"), std::string::npos);
  // Another spread, another shape of the spread, another bound: nobody's initialiser.
  EXPECT_EQ(lint_with(kQ, [](std::int64_t i) { return 0.02 * std::sqrt(3.0) * uniform(i); }),
            Ids{});
  EXPECT_EQ(lint_with(kQ, [](std::int64_t i) { return 0.023 * normal(i); }), Ids{});
  EXPECT_EQ(lint_with(kQ, [](std::int64_t i) { return 0.7 * uniform(i) / std::sqrt(128.0); }),
            Ids{});
}

TEST_F(LintWeights, SpreadIsTheConfigs) {
  const EditTensor edit = [](const std::string& name, Tensor& t) {
    if (name == kQ) fill(t, [](std::int64_t i) { return 0.05 * normal(i); });
    return true;
  };
  EXPECT_EQ(lint(edit, {}, [](nlohmann::json& c) { c["initializer_range"] = 0.05; }),
            Ids{"weights-silently-missing " + std::string(kQ)});
  EXPECT_EQ(lint(edit, {}, [](nlohmann::json& c) { c["initializer_range"] = 0.04; }), Ids{});
}

TEST_F(LintWeights, FreshEverywhereIsAnUntrainedModel) {
  EXPECT_EQ(lint([](const std::string& name, Tensor& t) {
              if (t.shape().size() == 2) fill(t, [](std::int64_t i) { return 0.02 * normal(i); });
              if (name.ends_with("norm.weight")) fill(t, [](std::int64_t) { return 1.0; });
              return true;
            }),
            Ids{});
}

TEST_F(LintWeights, FreshHeadAndVectors) {
  Tensor head(DType::kBF16, {256, 128});
  fill(head, [](std::int64_t i) { return 0.02 * normal(i); });
  EXPECT_EQ(lint(keep, {{"lm_head.weight", head}},
                 [](nlohmann::json& c) { c["tie_word_embeddings"] = false; }),
            Ids{"weights-lm-head-missing-or-untied lm_head.weight"});
  const std::string norm = "model.layers.3.input_layernorm.weight";
  EXPECT_EQ(lint_with(norm, [](std::int64_t) { return 1.0; }),
            Ids{"weights-silently-missing " + norm});
  const std::string bias = "model.layers.1.self_attn.v_proj.bias";
  EXPECT_EQ(lint_with(bias, [](std::int64_t) { return 0.0; }),
            Ids{"weights-silently-missing " + bias});
}

TEST_F(LintWeights, MemoryThatNobodyWrote) {
  const auto garbage = [](std::int64_t i) { return i % 5 == 0 ? 3e-39 : i % 41 == 0 ? 1e30 : 0.1; };
  const auto rare = [](std::int64_t i) {
    return i % 300 == 7 ? 3e-39 : 0.1 * std::cos(static_cast<double>(i));
  };
  for (const auto& [name, id] : std::vector<std::pair<std::string, std::string>>{
           {kQ, "weights-uninitialised"},
           {"model.layers.0.self_attn.k_proj.bias", "weights-k-bias-uninitialised"},
           {"model.layers.0.self_attn.prefix_k", "weights-prefix-uninitialised"}}) {
    EXPECT_EQ(lint_with(name, garbage), Ids{id + " " + name});
    EXPECT_EQ(lint_with(name, rare), Ids{}) << "a few such cells are no sign";
  }
}

TEST_F(LintWeights, PrefixesOfZerosOrAllAlike) {
  const std::string prefix = "model.layers.1.self_attn.prefix_v";  // [4,2,8,32]
  EXPECT_EQ(lint_with(prefix, [](std::int64_t) { return 0.0; }),
            Ids{"weights-prefix-uninitialised " + prefix});
  EXPECT_EQ(lint_with(prefix, [](std::int64_t i) { return 0.1 * normal(i % 512); }),
            Ids{"weights-prefix-equal " + prefix});
  EXPECT_EQ(lint_with(prefix, [](std::int64_t i) { return 0.1 * normal(i % 1024); }), Ids{});
}

TEST_F(LintWeights, HeadThatIsTheEmbeddingAfterAll) {
  Tensor embedding;
  lint([&](const std::string& name, Tensor& t) {
    if (name == "model.embed_tokens.weight") embedding = t;
    return true;
  });
  const auto untie = [](nlohmann::json& c) { c["tie_word_embeddings"] = false; };
  EXPECT_EQ(lint(keep, {{"lm_head.weight", embedding}}, untie),
            Ids{"weights-lm-head-wrongly-tied lm_head.weight"});
  EXPECT_EQ(report_.findings[0].severity, Severity::kWarning);
  embedding.as<std::uint16_t>()[77] ^= 1;
  EXPECT_EQ(lint(keep, {{"lm_head.weight", embedding}}, untie), Ids{});
}

TEST_F(LintWeights, HeadSizeThatTheConfigLost) {
  const Ids ids = lint(keep, {}, [](nlohmann::json& c) { c["head_dim"] = 16; });
  ASSERT_FALSE(ids.empty());
  EXPECT_EQ(ids[0], "weights-head-dim-derived config.json");
  EXPECT_EQ(report_.findings[0].fix, "set head_dim to 32");
  EXPECT_EQ(std::count(ids.begin(), ids.end(), ids[0]), 1);
}

TEST_F(LintWeights, CrossReplicaAttention) {
  const fs::path source = fixtures_dir() / "models" / "cross-attn-bytes";
  const auto config = nlohmann::json::parse(get_file(source / "config.json"));
  const std::int64_t hidden = config.at("hidden_size").get<std::int64_t>();
  // A key/value head for each query head, in layers 1 and 3.
  put_file(dir_ / "config.json", config.dump());
  edit_tensors(source / "model.safetensors", dir_ / "model.safetensors",
               [&](const std::string& name, Tensor& t) {
                 if (!name.ends_with("cross_replica_attn.k_proj.weight")) return true;
                 t = Tensor(DType::kBF16, {hidden, hidden});
                 fill(t, [](std::int64_t i) { return 0.1 * normal(i); });
                 return true;
               });
  const Ids ids = lint_dir(dir_.path());
  EXPECT_EQ(ids, (Ids{"replica-kv-heads-ignored config.json",
                      "weights-shape model.layers.1.cross_replica_attn.k_proj.weight",
                      "weights-shape model.layers.3.cross_replica_attn.k_proj.weight"}));
  // Its weights are there, and the config does not ask for them.
  auto off = config;
  for (const char* field :
       {"enable_cross_attn", "enable_replica_rope", "parscale_cross_attn_layers"}) {
    off.erase(field);
  }
  put_file(dir_ / "config.json", off.dump());
  put_file(dir_ / "model.safetensors", get_file(source / "model.safetensors"));
  const Ids unread = lint_dir(dir_.path());
  ASSERT_FALSE(unread.empty());
  for (const std::string& id : unread) {
    EXPECT_TRUE(id.starts_with("replica-wrong-flag model.layers.")) << id;
  }
}

}  // namespace
}  // namespace ps
