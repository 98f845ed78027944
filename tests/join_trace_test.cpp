// A trace of simulated ranks is the unsharded run, and what can go wrong between ranks is planted
// in it and found: values that differ, partial sums that were not, or wrongly, summed.
#include "diff/shard/join_trace.h"

#include <set>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/support/program.h"
#include "tests/support/run.h"

namespace ps {
namespace {

namespace fs = std::filesystem;

fs::path model_dir(const std::string& name) { return fixtures_dir() / "models" / name; }

void record_trace(const std::string& model, const fs::path& to, const std::string& tp) {
  std::vector<std::string> words = {"trace",    model_dir(model), "-o", to,         "--dtype",
                                    "f32",      "--steps",        "1",  "--random", "2x5",
                                    "--engine", "reference"};
  if (!tp.empty()) words.insert(words.end(), {"--tp", tp});
  const Ran ran = run_parscope(words);
  ASSERT_EQ(ran.code, 0) << ran.err;
}

class RankTrace : public ::testing::Test {
 protected:
  static constexpr const char* kDown = "model.layers.1.mlp.down_proj";
  void SetUp() override {
    PS_NEEDS_REFERENCE();
    record_trace("parscale-bytes", dir_ / "whole", "");
    record_trace("parscale-bytes", dir_ / "ranks", "4");
  }
  static std::string file(int rank) {
    return "step-00000.rank-0000" + std::to_string(rank) + ".safetensors";
  }
  // Edits step 0 of one rank, and says what the join finds.
  std::set<std::string> found(int rank, const EditTensor& edit) {
    const fs::path path = dir_ / "ranks" / file(rank), old = dir_ / "old.safetensors";
    fs::rename(path, old);
    edit_tensors(old, path, edit);
    const JoinedTrace joined =
        value_or_die(JoinedTrace::of(value_or_die(Trace::open(dir_ / "ranks")), nullptr));
    fs::rename(old, path);
    std::set<std::string> out;
    for (const Finding& f : joined.findings()) out.insert(f.id + " " + f.point);
    return out;
  }
  using Found = std::set<std::string>;
  TempDir dir_;
};

TEST_F(RankTrace, IsTheUnshardedRun) {
  const Ran same = run_parscope({"diff", dir_ / "ranks", dir_ / "whole", "--json"});
  EXPECT_EQ(same.code, 0) << same.out;
  const auto json = nlohmann::json::parse(same.out);
  EXPECT_EQ(json["verdict"], "equivalent");
  EXPECT_EQ(json["findings"].size(), 0U);
  for (const auto& point : json["points"]) EXPECT_EQ(point["status"], "ok") << point;
  const Ran truth = run_parscope({"diagnose", dir_ / "ranks", "--model", bytes_model()});
  EXPECT_EQ(truth.code, 0) << truth.out;
}

TEST_F(RankTrace, CrossReplicaAttentionAndPrefixesAreSharded) {
  record_trace("cross-attn-bytes", dir_ / "xw", "");
  for (const std::string tp : {"2", "4"}) {
    record_trace("cross-attn-bytes", dir_ / ("x" + tp), tp);
    EXPECT_EQ(run_parscope({"diff", dir_ / ("x" + tp), dir_ / "xw"}).code, 0) << tp;
  }
}

TEST_F(RankTrace, RanksThatDisagreeAreFound) {
  const auto change = [](const char* point) {
    return [point](const std::string& name, Tensor& t) {
      if (name == point) t.as<float>()[7] += 0.5F;
      return true;
    };
  };
  EXPECT_EQ(found(3, change("model.norm")), Found{"TP012 model.norm"});
  // Ranks 0 and 1 hold copies of key/value head 0; ranks 1 and 2 hold different ones.
  EXPECT_EQ(found(1, change("model.layers.0.self_attn:k_cache")),
            Found{"TP012 model.layers.0.self_attn:k_cache"});
  EXPECT_EQ(found(1, change("model.layers.0.mlp.gate_proj")), Found{});
}

TEST_F(RankTrace, ReducesAreHeldToTheirPartialSums) {
  EXPECT_EQ(found(0, [](const std::string&, Tensor&) { return true; }), Found{});
  Tensor partial;
  const auto missing = [&](const std::string& name, Tensor& t) {
    if (name == std::string(kDown) + ":partial") partial = t;
    return true;
  };
  found(0, missing);
  const Found not_reduced = found(0, [&](const std::string& name, Tensor& t) {
    if (name == kDown) t = partial;
    return true;
  });
  EXPECT_TRUE(not_reduced.contains(std::string("TP013 ") + kDown));
  const Found averaged = found(0, [&](const std::string& name, Tensor& t) {
    if (name == kDown) {
      for (float& x : t.as<float>()) x /= 4;
    }
    return true;
  });
  EXPECT_TRUE(averaged.contains(std::string("TP014 ") + kDown));
}

// The sums alone, as a program without taps before its reduce has them.
TEST_F(RankTrace, AverageInsteadOfSumIsNamedWithoutPartialSums) {
  for (const std::string wrong : {"model.layers.1.self_attn.o_proj", "model.embed_tokens"}) {
    const fs::path dir = dir_ / ("mean-" + wrong);
    fs::copy(dir_ / "whole", dir);
    const fs::path step = dir / file(0);
    fs::remove(step);
    edit_tensors(dir_ / ("whole/" + file(0)), step, [&](const std::string& name, Tensor& t) {
      if (name == wrong) {
        for (float& x : t.as<float>()) x *= 0.5F;
      }
      return true;
    });
    const Ran ran = run_parscope({"diagnose", dir, "--model", bytes_model(), "--json"});
    EXPECT_EQ(ran.code, 1) << ran.err;
    const auto json = nlohmann::json::parse(ran.out);
    EXPECT_EQ(json["first_divergence"]["point"], wrong);
    EXPECT_EQ(json["findings"][0]["id"], "TP014") << wrong;
  }
}

TEST_F(RankTrace, AMissingRankIsBadInput) {
  fs::remove(dir_ / "ranks" / file(2));
  EXPECT_EQ(run_parscope({"diff", dir_ / "ranks", dir_ / "whole"}).code, 2);
}

}  // namespace
}  // namespace ps
