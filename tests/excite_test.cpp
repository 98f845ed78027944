// Inputs of parscope's own: what they are, that a right model passes on them, and that a fault
// which natural inputs cannot show, or not name, is found and named.
#include "diff/isolate/excite.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "model/candidate.h"
#include "tests/support/fixtures.h"
#include "tests/support/program.h"
#include "tests/support/run.h"

namespace ps {
namespace {

using Json = nlohmann::json;

TEST(OwnInputs, AreEmbeddingsThatNoLayerDisturbs) {
  const Model model = value_or_die(open_model(bytes_model()));
  for (const DType run : {DType::kF32, DType::kBF16, DType::kF16}) {
    const OwnInputs own = value_or_die(own_inputs(model, run));
    ASSERT_EQ(own.words.size(), own.plan.prompt.input_ids.size());
    EXPECT_GE(own.words.size(), 7u);
    const std::int64_t h = model.config.hidden_size;
    const TensorView& table = *own.model.checkpoint->peek("model.embed_tokens.weight");
    const TensorView& natural = *model.checkpoint->peek("model.embed_tokens.weight");
    std::set<double> sizes;
    for (std::size_t r = 0; r < own.words.size(); ++r) {
      double square = 0;
      for (std::int64_t i = 0; i < h; ++i) {
        const double x = value_at(table, static_cast<std::int64_t>(r) * h + i);
        square += x * x;
        ASSERT_TRUE(std::isfinite(x));
      }
      sizes.insert(std::sqrt(square / static_cast<double>(h)));
    }
    const double edge = std::sqrt(model.config.rms_norm_eps);
    EXPECT_EQ(*sizes.begin(), 0.0);  // the row of zeros
    EXPECT_LT(*std::next(sizes.begin()), 0.4 * edge);
    EXPECT_GE(*sizes.rbegin(), run == DType::kF16 ? 1.0 : 0x1p40);
    // The other rows stay, the layers add nothing, and what the run reads else is the checkpoint's.
    const std::int64_t last = natural.count() - 1;
    EXPECT_EQ(value_at(table, last), value_at(natural, last));
    for (const std::string& name : model.checkpoint->names()) {
      const TensorView& now = *own.model.checkpoint->peek(name);
      const TensorView& before = *model.checkpoint->peek(name);
      ASSERT_EQ(now.shape, before.shape) << name;
      if (name.find("o_proj") != std::string::npos || name.find("down_proj") != std::string::npos) {
        EXPECT_TRUE(std::all_of(now.bytes.begin(), now.bytes.end(), [](std::byte b) {
          return b == std::byte{0};
        })) << name;
      } else if (name.find("embed_tokens") == std::string::npos) {
        EXPECT_EQ(now.bytes.data(), before.bytes.data()) << name;
      }
    }
  }
}

struct Checked {
  int code = -1;
  Json report;
};
Checked check(const std::vector<std::string>& more) {
  std::vector<std::string> words = {"check", bytes_model().string(), "--json", "--device", "host"};
  words.insert(words.end(), more.begin(), more.end());
  const Ran ran = run_parscope(words);
  EXPECT_LE(ran.code, 1) << ran.err;
  return {ran.code, Json::parse(ran.out)};
}

TEST(OwnInputs, ARightModelPassesAndShowsMore) {
  PS_NEEDS_REFERENCE();
  for (const char* dtype : {"f32", "bf16", "f16"}) {
    const Checked own = check({"--dtype", dtype, "--random", "2x5", "--own-inputs"});
    EXPECT_EQ(own.code, 0) << own.report["findings"].dump(1);
    EXPECT_TRUE(own.report["environment"]["own_inputs"].is_array()) << dtype;
    const Checked natural = check({"--dtype", dtype, "--random", "2x5"});
    EXPECT_FALSE(natural.report["environment"].contains("own_inputs"));
    EXPECT_GE(own.report["power"].get<double>(), natural.report["power"].get<double>()) << dtype;
  }
}

// A converter wrote another epsilon: seen by no natural row in bf16, and named on our own.
TEST(OwnInputs, AnotherEpsilonIsFoundAndNamedInEveryType) {
  PS_NEEDS_REFERENCE();
  const TempDir dir;
  copy_bytes_model(dir / "eps", [](const std::string&, Tensor&) { return true; });
  Json config = Json::parse(get_file(bytes_model() / "config.json"));
  config["rms_norm_eps"] = 1e-5;
  put_file(dir / "eps" / "config.json", config.dump());
  for (const char* dtype : {"f32", "bf16", "f16"}) {
    const Checked own = check({"--dtype", dtype, "--random", "2x5", "--own-inputs", "--candidate",
                               (dir / "eps").string()});
    EXPECT_EQ(own.code, 1) << dtype;
    ASSERT_FALSE(own.report["findings"].empty()) << dtype;
    const Json& first = own.report["findings"][0];
    EXPECT_EQ(first["id"], "norm-eps-wrong") << dtype << " " << first.dump(1);
    EXPECT_NEAR(first["evidence"]["eps"].get<double>(), 1e-5, 2e-7) << first.dump(1);
    EXPECT_TRUE(own.report["first_divergence"]["point"].get<std::string>().ends_with("layernorm"));
  }
}

}  // namespace
}  // namespace ps
