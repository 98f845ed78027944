// Llama with biases everywhere, tied Qwen2, Qwen3 and chunked prefill against another independent
// implementation (fixtures/golden/tensor-parallel), by the unsharded reference. These cases give
// zeros for rows without a key and pin their RoPE tables in float32.
#include <filesystem>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/file.h"
#include "core/safetensors.h"
#include "diff/compare/closeness.h"
#include "tests/support/fixtures.h"
#include "tests/support/run.h"
#include "tests/support/temp_dir.h"

namespace ps {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

Json config_of(const Json& cfg) {
  return {{"model_type", cfg["family"]},
          {"vocab_size", cfg["vocab"]},
          {"hidden_size", cfg["hidden"]},
          {"intermediate_size", cfg["inter"]},
          {"num_hidden_layers", cfg["layers"]},
          {"num_attention_heads", cfg["heads"]},
          {"num_key_value_heads", cfg["kv"]},
          {"head_dim", cfg["head_dim"]},
          {"rms_norm_eps", cfg["eps"]},
          {"rope_theta", cfg["theta"]},
          {"tie_word_embeddings", cfg["tie"]},
          {"attention_bias", cfg["o_bias"]},
          {"mlp_bias", cfg["mlp_bias"]},
          {"max_position_embeddings", 64},
          {"torch_dtype", "float32"}};
}

// Rows [position, D] from tables that are given by token [B,S,D].
Tensor by_position(const TensorView& table, const Json& position_ids, std::int64_t longest) {
  const std::int64_t length = table.shape[1], dim = table.shape[2];
  Tensor out(DType::kF32, {longest, dim});
  for (std::int64_t b = 0; b < table.shape[0]; ++b) {
    for (std::int64_t s = 0; s < length; ++s) {
      const auto p = position_ids[static_cast<std::size_t>(b)][static_cast<std::size_t>(s)]
                         .get<std::int64_t>();
      const auto from = table.as<float>().subspan(static_cast<std::size_t>((b * length + s) * dim),
                                                  static_cast<std::size_t>(dim));
      std::copy(from.begin(), from.end(), out.as<float>().begin() + p * dim);
    }
  }
  return out;
}

std::vector<std::int64_t> cells(const Json& rows, std::int64_t begin, std::int64_t length) {
  std::vector<std::int64_t> out;
  for (const Json& row : rows) {
    for (std::int64_t t = begin; t < begin + length; ++t) {
      out.push_back(row[static_cast<std::size_t>(t)].get<std::int64_t>());
    }
  }
  return out;
}

class Families : public ::testing::TestWithParam<std::string> {};

TEST_P(Families, Float64PointsAgree) {
  const fs::path source = fixtures_dir() / "golden" / "tensor-parallel" / GetParam();
  const Json json = Json::parse(value_or_die(read_text(source / "case.json")));
  const TempDir dir;
  ok_or_die(write_text(dir.path() / "config.json", config_of(json["cfg"]).dump()));
  fs::copy(source / "weights.safetensors", dir.path() / "model.safetensors");
  const Model model = value_or_die(open_model(dir.path()));
  const SafetensorsFile acts = value_or_die(SafetensorsFile::open(source / "acts.safetensors"));

  ReferenceOptions options;
  options.dtype = DType::kF64;
  options.empty_rows = EmptyRows::kZeros;
  options.pinned_rope =
      PinnedRope{by_position(*acts.find("rope/model.rotary_emb:cos"), json["position_ids"], 64),
                 by_position(*acts.find("rope/model.rotary_emb:sin"), json["position_ids"], 64)};
  const auto reference = value_or_die(open_reference(model, options));

  std::int64_t past = 0, compared = 0;
  KeepAll tap;
  for (std::size_t step = 0; step < json["steps"].size(); ++step) {
    StepInputs in;
    in.batch = static_cast<std::int64_t>(json["input_ids"].size());
    in.length = json["steps"][step].get<std::int64_t>();
    in.input_ids = cells(json["input_ids"], past, in.length);
    in.position_ids = cells(json["position_ids"], past, in.length);
    in.attention_mask = cells(json["valid"], 0, past + in.length);
    tap = KeepAll();
    ok_or_die(reference->forward(in, tap));
    past += in.length;
    const std::string prefix = "f64/step" + std::to_string(step) + "/";
    for (const auto& entry : acts.entries()) {
      if (!entry.name.starts_with(prefix)) continue;
      const std::string point = entry.name.substr(prefix.size());
      const Closeness c = compare(tap.at(point).view(), entry.view);
      EXPECT_TRUE(c.within(1e-12)) << entry.name << " " << c.max_abs << " of " << c.scale;
      ++compared;
    }
  }
  for (const auto& entry : acts.entries()) {
    if (!entry.name.starts_with("cache/")) continue;
    const Closeness c = compare(tap.at(entry.name.substr(6)).view(), entry.view);
    EXPECT_TRUE(c.within(1e-12)) << entry.name;
  }
  EXPECT_GT(compared, 30);
}

INSTANTIATE_TEST_SUITE_P(All, Families,
                         ::testing::Values("llama_bias_everywhere", "qwen2_tied_leftpad",
                                           "qwen3_qknorm_wide_heads", "llama_chunked_prefill",
                                           "qwen2_mqa_decode", "llama_heads6_tp3"),
                         [](const auto& case_info) { return case_info.param; });

}  // namespace
}  // namespace ps
