// A trace of simulated ranks is the unsharded run, and what can go wrong between ranks is planted
// in it and found: values that differ, partial sums that were not, or wrongly, summed.
#include "diff/shard/join_trace.h"

#include <functional>
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
  static std::string file(int rank, int step = 0) {
    return "step-0000" + std::to_string(step) + ".rank-0000" + std::to_string(rank) +
           ".safetensors";
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

// Edits one tensor in one rank's file.
void edit_rank(const fs::path& dir, const std::string& file, const std::string& point,
               const std::function<void(Tensor&)>& edit) {
  const fs::path path = dir / file, old = dir / "old.safetensors";
  fs::rename(path, old);
  edit_tensors(old, path, [&](const std::string& name, Tensor& t) {
    if (name == point) edit(t);
    return true;
  });
  fs::remove(old);
}

void edit_manifest(const fs::path& dir, const std::function<void(nlohmann::json&)>& edit) {
  auto json = nlohmann::json::parse(get_file(dir / "trace.json"));
  edit(json);
  put_file(dir / "trace.json", json.dump());
}

TEST_F(RankTrace, TheOddRankIsBlamedAndItsPointIsTheFirst) {
  for (const int odd : {0, 2}) {
    const std::string point = "model.layers.1.input_layernorm";
    const fs::path dir = dir_ / ("odd" + std::to_string(odd));
    fs::copy(dir_ / "ranks", dir);
    edit_rank(dir, file(odd), point, [](Tensor& t) { t.as<float>()[7] += 0.5F; });
    const Ran ran = run_parscope({"diff", dir, dir_ / "whole", "--json"});
    EXPECT_EQ(ran.code, 1) << ran.err;
    const auto json = nlohmann::json::parse(ran.out);
    EXPECT_EQ(json["first_divergence"]["point"], point);
    EXPECT_EQ(json["first_divergence"]["rank"], odd);
    EXPECT_EQ(json["findings"][0]["id"], "TP012");
    // The others hold the right value, and that one is compared.
    for (const auto& row : json["points"]) EXPECT_EQ(row["status"], "ok") << row;
  }
}

TEST_F(RankTrace, RanksOfOtherGroupsAreSaidNotToBeLookedAt) {
  const fs::path dir = dir_ / "groups";
  fs::copy(dir_ / "ranks", dir);
  edit_manifest(dir, [&](nlohmann::json& json) {
    json["world_size"] = 8;
    auto& steps = json["steps"];
    for (std::size_t i = 0, n = steps.size(); i < n; ++i) {
      auto more = steps[i];
      const int rank = more["rank"].get<int>();
      more["rank"] = rank + 4;
      const std::string from = more["file"].get<std::string>(), to = "group-" + from;
      fs::copy_file(dir / from, dir / to);
      more["file"] = to;
      steps.push_back(more);
    }
  });
  const Ran ran = run_parscope({"diff", dir, dir_ / "whole"});
  EXPECT_EQ(ran.code, 0) << ran.out << ran.err;
  EXPECT_NE(ran.out.find("ranks 4 to 7 are other groups"), std::string::npos) << ran.out;
  edit_manifest(dir, [](nlohmann::json& json) { json["steps"].erase(8); });
  expect_bad_input(run_parscope({"diff", dir, dir_ / "whole"}), "no groups of tensor_parallel");
}

TEST_F(RankTrace, IsCutWhereItsManifestSays) {
  const fs::path dir = dir_ / "declared";
  fs::copy(dir_ / "ranks", dir);
  for (int n = 0; n < 8; ++n) {  // [B,S,h]: each rank has a quarter of h
    const int rank = n % 4;
    edit_rank(dir, file(rank, n / 4), "model.norm", [&](Tensor& t) {
      const std::int64_t h = t.shape()[2], rows = t.shape()[0] * t.shape()[1];
      Tensor part(t.dtype(), {t.shape()[0], t.shape()[1], h / 4});
      for (std::int64_t i = 0; i < rows * h / 4; ++i) {
        const std::int64_t from = i / (h / 4) * h + rank * (h / 4) + i % (h / 4);
        part.as<float>()[static_cast<std::size_t>(i)] =
            t.as<float>()[static_cast<std::size_t>(from)];
      }
      t = std::move(part);
    });
  }
  EXPECT_EQ(run_parscope({"diff", dir, dir_ / "whole"}).code, 1);
  for (const int axis : {2, -1}) {
    edit_manifest(dir, [&](nlohmann::json& json) { json["shards"]["model.norm"]["dim"] = axis; });
    const Ran ran = run_parscope({"diff", dir, dir_ / "whole"});
    EXPECT_EQ(ran.code, 0) << ran.out << ran.err;
  }
  edit_manifest(dir, [&](nlohmann::json& json) { json["shards"]["model.norm"]["dim"] = 3; });
  EXPECT_EQ(run_parscope({"diff", dir, dir_ / "whole"}).code, 1);
}

TEST_F(RankTrace, RanksThatReadOtherTokensAreFound) {
  const fs::path dir = dir_ / "tokens";
  fs::copy(dir_ / "ranks", dir);
  edit_rank(dir, file(1), "input_ids", [](Tensor& t) { t.bytes()[0] ^= std::byte{1}; });
  const Ran ran = run_parscope({"diff", dir, dir_ / "whole", "--json"});
  const auto json = nlohmann::json::parse(ran.out);
  EXPECT_EQ(json["first_divergence"]["point"], "input_ids");
  EXPECT_EQ(json["first_divergence"]["rank"], 1);
}

TEST_F(RankTrace, AMissingRankIsBadInput) {
  fs::remove(dir_ / "ranks" / file(2));
  EXPECT_EQ(run_parscope({"diff", dir_ / "ranks", dir_ / "whole"}).code, 2);
}

}  // namespace
}  // namespace ps
