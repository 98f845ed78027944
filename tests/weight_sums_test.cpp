// Weights by checksum: what `diff` refuses, what `diagnose` says, what `trace` writes.
#include "diff/align/weight_sums.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/crc32.h"
#include "core/file.h"
#include "tests/support/fixtures.h"
#include "tests/support/program.h"
#include "tests/support/temp_dir.h"

namespace ps {
namespace {

const std::string kModel = bytes_model().string();

Model the_model() {
  Result<Model> model = open_model(kModel);
  EXPECT_TRUE(model.ok()) << model.error().line();
  return std::move(*model);
}

// Checkpoint tensors as some other program holds them.
WeightSum sum_of(const Model& model, const std::string& name, const std::string& under = "") {
  const TensorView* t = model.checkpoint->peek(name);
  return {under.empty() ? name : under, t->dtype, t->shape, crc32_of(t->bytes)};
}

TEST(WeightSums, OfACheckpointEqualThemselvesAndNothingElse) {
  const Model model = the_model();
  const std::vector<WeightSum> sums = weight_sums(*model.checkpoint, model.config, 2);
  EXPECT_EQ(sums.size(), expected_weights(model.config).size());
  EXPECT_FALSE(other_weights(sums, sums));
  EXPECT_FALSE(weights_unlike(sums, model, 2));
  for (std::size_t i = 0; i < sums.size(); i += 7) {
    std::vector<WeightSum> other = sums;
    other[i].crc32 ^= 1;
    const auto refused = other_weights(other, sums);
    ASSERT_TRUE(refused) << sums[i].name;
    EXPECT_EQ(refused->point, sums[i].name);
    EXPECT_EQ(refused->severity, Severity::kError);
    const auto said = weights_unlike(other, model, 2);
    ASSERT_TRUE(said) << sums[i].name;
    EXPECT_EQ(said->point, sums[i].name);
    EXPECT_EQ(said->severity, Severity::kWarning);
    // In another dtype, or under no common name, it is no evidence.
    other[i].dtype = DType::kF64;
    EXPECT_FALSE(other_weights(other, sums));
    other[i] = sums[i];
    other[i].name = "elsewhere";
    other[i].crc32 ^= 1;
    EXPECT_FALSE(other_weights(other, sums));
    EXPECT_FALSE(weights_unlike(other, model, 2));
  }
}

TEST(WeightSums, SayWhoseBytesAWeightHolds) {
  const Model model = the_model();
  const std::string gate = "model.layers.1.mlp.gate_proj.weight";
  const std::string up = "model.layers.1.mlp.up_proj.weight";
  const auto said = weights_unlike({sum_of(model, gate, up), sum_of(model, up, gate)}, model, 1);
  ASSERT_TRUE(said);
  EXPECT_NE(said->message.find("2 of 2 weights have"), std::string::npos) << said->message;
  EXPECT_NE(said->message.find("holds the bytes of " + gate), std::string::npos) << said->message;
  WeightSum turned = sum_of(model, "model.embed_tokens.weight");
  std::swap(turned.shape[0], turned.shape[1]);
  const auto shape = weights_unlike({turned}, model, 1);
  ASSERT_TRUE(shape);
  EXPECT_NE(shape->message.find("in another shape"), std::string::npos) << shape->message;
}

// Rounding to another type is done by whoever loads, and is no difference.
TEST(WeightSums, FollowTheTypeOfTheRun) {
  const Model model = the_model();
  const std::string name = "model.layers.0.self_attn.q_proj.weight";
  const TensorView* stored = model.checkpoint->peek(name);
  std::vector<float> wide(static_cast<std::size_t>(stored->count()));
  for (std::size_t i = 0; i < wide.size(); ++i) {
    wide[i] = static_cast<float>(value_at(*stored, static_cast<std::int64_t>(i)));
  }
  const DType other = stored->dtype == DType::kF32 ? DType::kF64 : DType::kF32;
  if (other == DType::kF32) {
    WeightSum held{name, DType::kF32, stored->shape, crc32_of(std::as_bytes(std::span(wide)))};
    EXPECT_FALSE(weights_unlike({held}, model, 1));
    wide.back() += 1.0f;
    held.crc32 = crc32_of(std::as_bytes(std::span(wide)));
    EXPECT_TRUE(weights_unlike({held}, model, 1));
  }
}

TEST(WeightSums, AreWrittenByTraceAndReadByDiffAndDiagnose) {
  const TempDir dir;
  for (const char* name : {"a", "b"}) {
    const Ran ran = run_parscope({"trace", kModel, "-o", dir / name, "--random", "2x5", "--points",
                                  "model.embed_tokens", "--points", "lm_head"});
    ASSERT_EQ(ran.code, 0) << ran.err;
  }
  EXPECT_EQ(run_parscope({"diff", dir / "a", dir / "b"}).code, 0);
  // The same values, and a manifest that names another checkpoint and a kernel that fell back.
  const std::filesystem::path manifest = std::filesystem::path(dir / "b") / "trace.json";
  nlohmann::json said = nlohmann::json::parse(get_file(manifest));
  ASSERT_TRUE(said["weights"].contains("model.norm.weight")) << said.dump(1);
  EXPECT_EQ(said["backends"][0]["executed"], "libtorch");
  said["weights"]["model.norm.weight"]["crc32"] = "01234567";
  said["backends"][0] = {{"requested", "flash"}, {"executed", "math"}, {"layer", 2}};
  ASSERT_TRUE(write_text(manifest, said.dump()).ok());
  const Ran diff = run_parscope({"diff", dir / "b", dir / "a", "--json"});
  EXPECT_EQ(diff.code, 2);
  EXPECT_EQ(nlohmann::json::parse(diff.out)["verdict"], "invalid");
  EXPECT_NE(diff.out.find("capture-weights"), std::string::npos);
  const Ran diagnosed = run_parscope({"diagnose", dir / "b", "--model", kModel, "--json"});
  EXPECT_EQ(diagnosed.code, 0) << diagnosed.err;  // both are warnings: every value is right
  const nlohmann::json report = nlohmann::json::parse(diagnosed.out);
  EXPECT_EQ(report["verdict"], "equivalent");
  std::vector<std::string> ids;
  for (const auto& f : report["findings"]) {
    ids.push_back(f["id"]);
    EXPECT_EQ(f["severity"], "warning") << f.dump();
  }
  EXPECT_EQ(ids, (std::vector<std::string>{"MK050", "capture-weights"}));
  EXPECT_EQ(run_parscope({"lint", dir / "b"}).code, 1);
  EXPECT_EQ(run_parscope({"lint", dir / "a"}).code, 0);
}

}  // namespace
}  // namespace ps
