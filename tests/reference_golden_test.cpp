// The reference against stored outputs of independent implementations, and proof that the check
// can fail: each planted change to a model or to what is expected turns its case red.
#include <filesystem>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/file.h"
#include "core/float_bits.h"
#include "core/safetensors.h"
#include "core/trace.h"
#include "diff/golden/golden.h"
#include "tests/support/fixtures.h"
#include "tests/support/run.h"
#include "tests/support/temp_dir.h"

namespace ps {
namespace {

namespace fs = std::filesystem;

GoldenOptions by_reference() {
  GoldenOptions options;
  options.open = [](const Model& model,
                    const EngineOptions& engine) -> Result<std::unique_ptr<Engine>> {
    ReferenceOptions reference;
    static_cast<EngineOptions&>(reference) = engine;
    PS_TRY(std::unique_ptr<Reference> opened, open_reference(model, reference));
    return std::unique_ptr<Engine>(std::move(opened));
  };
  return options;
}

GoldenResult verify(const fs::path& dir) {
  const auto cases = value_or_die(find_golden_cases(dir));
  PS_CHECK(cases.size() == 1, "one case in " + dir.string());
  return verify_golden(cases[0], by_reference());
}

TEST(ReferenceGolden, EveryParscaleCasePasses) {
  const auto cases = value_or_die(find_golden_cases(fixtures_dir() / "golden" / "parscale"));
  EXPECT_GE(cases.size(), 31U);
  for (const GoldenCase& golden : cases) {
    const GoldenResult result = verify_golden(golden, by_reference());
    EXPECT_TRUE(result.pass) << result.name << ": " << result.message;
  }
}

class PlantedChange : public ::testing::Test {
 protected:
  void SetUp() override {
    dir_ = temp_.path() / "case";
    fs::copy(fixtures_dir() / "golden" / "parscale" / "ps_n4_t5_leftpad_posids", dir_,
             fs::copy_options::recursive);
    ASSERT_TRUE(verify(dir_).pass);
  }

  // Rewrites one tensor of a file.
  void change(const fs::path& file, const std::string& name,
              const std::function<void(Tensor&)>& edit) {
    const SafetensorsFile old = value_or_die(SafetensorsFile::open(dir_ / file));
    SafetensorsWriter writer = value_or_die(SafetensorsWriter::create(dir_ / file));
    bool found = false;
    for (const auto& entry : old.entries()) {
      Tensor value = Tensor::copy_of(entry.view);
      if (entry.name == name) {
        edit(value);
        found = true;
      }
      ok_or_die(writer.add(entry.name, value.view()));
    }
    ASSERT_TRUE(found) << name;
    ok_or_die(writer.close());
  }
  // The same field in config.json and in the configs that the traces carry.
  void change_config(const std::string& field, const nlohmann::json& value) {
    for (const char* file : {"config.json", "expected/trace.json", "expected-f64/trace.json"}) {
      auto json = nlohmann::json::parse(value_or_die(read_text(dir_ / file)));
      (json.contains("model") ? json["model"] : json)[field] = value;
      ok_or_die(write_text(dir_ / file, json.dump()));
    }
  }
  void expect_failure_that_names(const std::string& word) {
    const GoldenResult result = verify(dir_);
    EXPECT_FALSE(result.pass);
    EXPECT_NE(result.message.find(word), std::string::npos) << result.message;
  }

  TempDir temp_;
  fs::path dir_;
};

TEST_F(PlantedChange, OneWeightFails) {
  change("model.safetensors", "model.layers.1.mlp.up_proj.weight",
         [](Tensor& t) { t.as<float>()[37] += 1e-3F; });
  expect_failure_that_names("model.layers.1.mlp.up_proj");
}

TEST_F(PlantedChange, OneBiasFails) {
  change("model.safetensors", "model.layers.0.self_attn.k_proj.bias",
         [](Tensor& t) { t.as<float>()[5] = 0.0F; });
  expect_failure_that_names("model.layers.0.self_attn.k_proj");
}

TEST_F(PlantedChange, OneMaskCellFails) {
  change("expected/step-00000.rank-00000.safetensors", "model:mask",
         [](Tensor& t) { t.as<std::uint8_t>()[11] ^= 1; });
  expect_failure_that_names("model:mask");
}

TEST_F(PlantedChange, OnePaddingTokenFails) {
  change("expected-f64/step-00000.rank-00000.safetensors", "attention_mask", [](Tensor& t) {
    for (std::int64_t& cell : t.as<std::int64_t>()) {
      if (cell == 0) {
        cell = 1;
        return;
      }
    }
    FAIL() << "the case has padding";
  });
  expect_failure_that_names("self_attn:probs");
}

TEST_F(PlantedChange, SwappedReplicasFail) {
  // Prefix rows 0 and 1 exchanged in one layer: the run's replicas are in another order.
  change("model.safetensors", "model.layers.0.self_attn.prefix_k", [](Tensor& t) {
    const std::size_t row = t.bytes().size() / static_cast<std::size_t>(t.shape()[0]);
    std::swap_ranges(t.bytes().begin(), t.bytes().begin() + static_cast<std::ptrdiff_t>(row),
                     t.bytes().begin() + static_cast<std::ptrdiff_t>(row));
  });
  expect_failure_that_names("model.layers.0.self_attn:probs");
}

TEST_F(PlantedChange, AnotherRopeThetaFails) {
  change_config("rope_theta", 10001.0);
  expect_failure_that_names("model.rotary_emb:inv_freq");
}

TEST_F(PlantedChange, AnotherSmoothingFails) {
  change_config("parscale_attn_smooth", 0.0101);
  expect_failure_that_names("model:aggregate");
}

TEST_F(PlantedChange, AnotherEpsilonFails) {
  change_config("rms_norm_eps", 2e-6);
  expect_failure_that_names("layernorm");
}

TEST_F(PlantedChange, OneExpectedNumberOfTheProducerFails) {
  change("expected/step-00000.rank-00000.safetensors", "model:aggregated",
         [](Tensor& t) { t.as<float>()[3] += 1e-3F; });
  expect_failure_that_names("model:aggregated");
}

TEST_F(PlantedChange, AConfigThatDiffersFromTheTraceFails) {
  auto json = nlohmann::json::parse(value_or_die(read_text(dir_ / "config.json")));
  json["max_position_embeddings"] = 513;
  ok_or_die(write_text(dir_ / "config.json", json.dump()));
  expect_failure_that_names("max_position_embeddings");
}

TEST_F(PlantedChange, ANanInTheExpectationFails) {
  change("expected-f64/step-00000.rank-00000.safetensors", "lm_head",
         [](Tensor& t) { t.as<double>()[0] = std::nan(""); });
  expect_failure_that_names("lm_head");
}

TEST_F(PlantedChange, ATruncatedFileFails) {
  fs::resize_file(dir_ / "model.safetensors", 5000);
  expect_failure_that_names("model.safetensors");
}

TEST(GoldenCases, NoneFoundIsAnError) {
  const TempDir empty;
  const auto cases = find_golden_cases(empty.path());
  ASSERT_FALSE(cases.ok());
  EXPECT_NE(cases.error().line().find("no golden case found"), std::string::npos);
}

TEST(GoldenCases, AnUnreadableCaseFails) {
  const TempDir dir;
  fs::create_directories(dir.path() / "broken");
  ok_or_die(write_text(dir.path() / "broken" / "case.json", "{"));
  const auto cases = value_or_die(find_golden_cases(dir.path()));
  ASSERT_EQ(cases.size(), 1U);
  EXPECT_EQ(cases[0].name, "broken");
  EXPECT_FALSE(verify_golden(cases[0], by_reference()).pass);
}

}  // namespace
}  // namespace ps
