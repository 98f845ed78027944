// `golden record` and `verify` of users' own runs, the digests under them, `completions`.
#include <cmath>
#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/rng.h"
#include "diff/compare/compare.h"
#include "diff/golden/digest.h"
#include "tests/support/program.h"

namespace ps {
namespace {

namespace fs = std::filesystem;

fs::path model_dir() { return fixtures_dir() / "golden" / "parscale" / "hf_qwen2_rightpad"; }

// The golden trace's only step with one cell of one value changed.
void change_run(const fs::path& out, const std::string& point, std::size_t cell, float by) {
  fs::create_directories(out);
  put_file(out / "trace.json", get_file(model_dir() / "expected" / "trace.json"));
  const std::string file = "step-00000.rank-00000.safetensors";
  edit_tensors(model_dir() / "expected" / file, out / file,
               [&](const std::string& name, Tensor& t) {
                 if (name == point) t.as<float>()[cell] += by;
                 return true;
               });
}

Ran record(const fs::path& run, const fs::path& golden, std::vector<std::string> more = {}) {
  std::vector<std::string> words = {"golden", "record", run, "-o", golden};
  words.insert(words.end(), more.begin(), more.end());
  return run_parscope(words);
}

fs::path model_of(const fs::path& golden) {
  return nlohmann::json::parse(get_file(golden / "golden.json"))["model"].get<std::string>();
}

TEST(GoldenRecord, ARunIsKeptWithItsOriginAndVerifiedByTheModel) {
  PS_NEEDS_REFERENCE();
  for (const bool digest : {false, true}) {
    const TempDir dir;
    std::vector<std::string> more = {"--model", model_dir(), "--commit",  "abc",
                                     "--date",  "today",     "--command", "make dump"};
    if (digest) more.emplace_back("--digest");
    const Ran made = record(model_dir() / "expected", dir / "golden", more);
    ASSERT_EQ(made.code, 0) << made.err;
    const auto json = nlohmann::json::parse(get_file(dir / "golden" / "golden.json"));
    EXPECT_EQ(json["provenance"]["commit"], "abc");
    EXPECT_EQ(json["provenance"]["date_from"], "--date");
    EXPECT_NE(json["provenance"]["producer"].get<std::string>().find("transformers"),
              std::string::npos);
    const Ran verified = run_parscope({"golden", "verify", dir.path(), "--json"});
    ASSERT_EQ(verified.code, 0) << verified.out;
    const auto said = nlohmann::json::parse(verified.out);
    EXPECT_EQ(said["cases"][0]["kind"], "recorded");
    EXPECT_NE(
        said["cases"][0]["message"].get<std::string>().find("computed again and within bounds"),
        std::string::npos);
  }
}

TEST(GoldenRecord, TheModelIsFoundFromAFolderThatWasNotThere) {
  const TempDir dir;
  const std::string words = " golden record '" + (model_dir() / "expected").string() +
                            "' -o golden/new --model '" + model_dir().string() + "'";
  ASSERT_EQ(run_program({"/bin/sh", "-c",
                         "cd '" + dir.path().string() + "' && " + parscope_program() + words})
                .code,
            0);
  const fs::path model = model_of(dir / "golden" / "new");
  EXPECT_TRUE(model.is_relative());
  EXPECT_TRUE(fs::exists(dir / "golden" / "new" / model / "config.json")) << model;
}

TEST(GoldenRecord, ANumberThatWasEditedMakesTheCaseFail) {
  const TempDir dir;
  ASSERT_EQ(record(model_dir() / "expected", dir / "golden").code, 0);
  ASSERT_EQ(run_parscope({"golden", "verify", dir.path()}).code, 0);
  const fs::path json = dir / "golden" / "golden.json";
  const std::string text = get_file(json);
  const std::size_t at = text.find("\"rms\": ") + 9;
  std::string edited = text;
  edited[at] = edited[at] == '1' ? '2' : '1';
  put_file(json, edited);
  const Ran ran = run_parscope({"golden", "verify", dir.path(), "--github"});
  EXPECT_EQ(ran.code, 1);
  EXPECT_NE(ran.out.find("changed by hand"), std::string::npos) << ran.out;
  EXPECT_NE(ran.out.find("::error title=golden golden::"), std::string::npos) << ran.out;
  put_file(json, text);
  const fs::path step = dir / "golden" / "trace" / "step-00000.rank-00000.safetensors";
  std::string bytes = get_file(step);
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  put_file(step, bytes);
  const Ran damaged = run_parscope({"golden", "verify", dir.path()});
  EXPECT_EQ(damaged.code, 1);
  EXPECT_NE(damaged.out.find("is not what was recorded"), std::string::npos) << damaged.out;
}

TEST(GoldenRecord, AValueThatWasTakenAwayMakesTheCaseFail) {
  const TempDir dir;
  ASSERT_EQ(record(model_dir() / "expected", dir / "golden").code, 0);
  const fs::path step = dir / "golden" / "trace" / "step-00000.rank-00000.safetensors";
  edit_tensors(step, dir / "less.safetensors", [](const std::string& name, Tensor&) {
    return name != "model.layers.1.mlp.down_proj";
  });
  fs::rename(dir / "less.safetensors", step);
  for (const std::vector<std::string>& more :
       {std::vector<std::string>{}, {"--against", (model_dir() / "expected").string()}}) {
    std::vector<std::string> words = {"golden", "verify", (dir / "golden").string()};
    words.insert(words.end(), more.begin(), more.end());
    const Ran ran = run_parscope(words);
    EXPECT_EQ(ran.code, 1);
    EXPECT_NE(ran.out.find("model.layers.1.mlp.down_proj is missing"), std::string::npos)
        << ran.out;
  }
}

TEST(GoldenRecord, OtherTokensAreAnotherRunHoweverLargeTheirNumbers) {
  const TempDir dir;
  ASSERT_EQ(record(model_dir() / "expected", dir / "golden").code, 0);
  fs::create_directories(dir / "run");
  put_file(dir / "run" / "trace.json", get_file(model_dir() / "expected" / "trace.json"));
  const std::string file = "step-00000.rank-00000.safetensors";
  edit_tensors(model_dir() / "expected" / file, dir / "run" / file,
               [](const std::string& name, Tensor& t) {
                 if (name == "input_ids") t.as<std::int64_t>()[2] ^= 1;
                 return true;
               });
  const Ran ran = run_parscope({"golden", "verify", dir / "golden", "--against", dir / "run"});
  EXPECT_EQ(ran.code, 1);
  EXPECT_NE(ran.out.find("input_ids"), std::string::npos) << ran.out;
}

// Beams reorder caches between the steps, a mask from outside stands in the step: both are run
// again.
TEST(GoldenRecord, BeamsAndMasksAreRunAgain) {
  PS_NEEDS_REFERENCE();
  for (const std::vector<std::string>& how :
       {std::vector<std::string>{"--beams", "2", "--steps", "3"},
        {"--mask", "Q=5 KV=5; causal & window(2)"}}) {
    const TempDir dir;
    const std::string model = bytes_model().string();
    std::vector<std::string> words = {"trace",    model,       "-o",       dir / "t",
                                      "--engine", "reference", "--random", "1x5",
                                      "--device", "host",      "--quiet"};
    words.insert(words.end(), how.begin(), how.end());
    const Ran traced = run_parscope(words);
    ASSERT_EQ(traced.code, 0) << traced.err;
    ASSERT_EQ(record(dir / "t", dir / "golden", {"--model", model}).code, 0);
    const Ran ran = run_parscope({"golden", "verify", dir / "golden"});
    EXPECT_EQ(ran.code, 0) << ran.out;
    EXPECT_NE(ran.out.find("computed again"), std::string::npos) << ran.out;
  }
}

TEST(GoldenRecord, AnotherRunIsHeldToItAndTheChangeIsNamed) {
  for (const bool digest : {false, true}) {
    const TempDir dir;
    std::vector<std::string> more;
    if (digest) more.emplace_back("--digest");
    more.insert(more.end(), {"--model", model_dir().string()});
    ASSERT_EQ(record(model_dir() / "expected", dir / "golden", more).code, 0);
    more.resize(more.size() - 2);
    const fs::path model = model_of(dir / "golden");
    const std::string point = "model.layers.1.mlp.down_proj";
    change_run(dir / "worse", point, 33, 3.0F);
    const Ran same =
        run_parscope({"golden", "verify", dir / "golden", "--against", model_dir() / "expected"});
    EXPECT_EQ(same.code, 0) << same.out;
    const Ran ran = run_parscope({"golden", "verify", dir / "golden", "--against", dir / "worse"});
    EXPECT_EQ(ran.code, 1);
    EXPECT_NE(ran.out.find("step 0 rank 0 " + point + " "), std::string::npos) << ran.out;
    const std::string before = get_file(dir / "golden" / "golden.json");
    const Ran again = record(dir / "worse", dir / "golden", more);
    EXPECT_EQ(again.code, 1);
    EXPECT_NE(again.out.find("changed  step 0 rank 0 " + point), std::string::npos) << again.out;
    EXPECT_EQ(get_file(dir / "golden" / "golden.json"), before);
    more.emplace_back("--update");
    EXPECT_EQ(record(dir / "worse", dir / "golden", more).code, 0);
    EXPECT_EQ(model_of(dir / "golden"), model) << "the golden has forgotten its model";
    EXPECT_EQ(run_parscope({"golden", "verify", dir / "golden", "--against", dir / "worse"}).code,
              0);
  }
}

TEST(GoldenRecord, AFolderOfOtherThingsIsLeftAlone) {
  const TempDir dir;
  fs::create_directories(dir / "mine");
  put_file(dir / "mine" / "notes.txt", "keep");
  expect_bad_input(record(model_dir() / "expected", dir / "mine"), "other things in it");
  EXPECT_EQ(contents(dir / "mine").size(), 1U);
}

Tensor noise(std::uint64_t seed) {
  Tensor out(DType::kF32, {7, 11, 13});
  const Rng rng(seed, 1);
  for (std::size_t i = 0; i < out.as<float>().size(); ++i) {
    out.as<float>()[i] = static_cast<float>(rng.below(i, 2001) - 1000) / 500.0F;
  }
  return out;
}

TEST(Digest, TheEstimateOfADistanceIsRightAndNoChangeIsMissed) {
  const Tensor expected = noise(1);
  const Digest kept = digest_of(expected.view(), nullptr);
  EXPECT_TRUE(match_digests(kept, kept, DType::kF32, DType::kF32, 2).same_bits);
  const BoundSpec bound = default_bound(DType::kF32, DType::kF32, 2);
  for (std::uint64_t seed = 2; seed < 60; ++seed) {
    const Tensor other = noise(seed);
    double squares = 0;
    Tensor near = expected, far = expected;
    // Rounding of half the bound is no change; an error of four times the bound in one cell of the
    // size of the whole is.
    for (std::size_t i = 0; i < 1001; ++i) {
      near.as<float>()[i] += static_cast<float>(0.5 * bound.l2_limit) * other.view().as<float>()[i];
    }
    const std::size_t cell = (seed * 97) % 1001;
    far.as<float>()[cell] += static_cast<float>(4 * bound.l2_limit * kept.rms * std::sqrt(1001.0));
    squares = std::pow(static_cast<double>(far.view().as<float>()[cell]) -
                           static_cast<double>(expected.view().as<float>()[cell]),
                       2);
    const DigestMatch ok =
        match_digests(digest_of(near.view(), nullptr), kept, DType::kF32, DType::kF32, 2);
    EXPECT_TRUE(ok.ok) << seed << " " << ok.what;
    const DigestMatch bad =
        match_digests(digest_of(far.view(), nullptr), kept, DType::kF32, DType::kF32, 2);
    EXPECT_FALSE(bad.ok) << seed;
    EXPECT_NEAR(bad.rel_l2, std::sqrt(squares / 1001) / kept.rms, 0.02 * bad.rel_l2) << seed;
  }
}

TEST(Digest, ANanAndAnotherShapeAreSeen) {
  const Tensor expected = noise(1);
  const Digest kept = digest_of(expected.view(), nullptr);
  Tensor bad = expected;
  bad.as<float>()[500] = std::nanf("");
  const DigestMatch match =
      match_digests(digest_of(bad.view(), nullptr), kept, DType::kF32, DType::kF32, 2);
  EXPECT_FALSE(match.ok);
  EXPECT_NE(match.what.find("1 NaN"), std::string::npos) << match.what;
  const TensorView turned{DType::kF32, {11, 7, 13}, expected.view().bytes};
  EXPECT_FALSE(match_digests(digest_of(turned, nullptr), kept, DType::kF32, DType::kF32, 2).ok);
}

TEST(Completions, NameEveryCommandInEveryShell) {
  const std::string help = run_parscope({"--help"}).out;
  for (const char* shell : {"bash", "zsh", "fish"}) {
    const Ran ran = run_parscope({"completions", shell});
    ASSERT_EQ(ran.code, 0) << ran.err;
    for (const char* command : {"check", "diff", "convert", "golden", "doctor", "completions"}) {
      EXPECT_NE(help.find(std::string("\n  ") + command + " "), std::string::npos) << command;
      EXPECT_NE(ran.out.find(command), std::string::npos) << shell << " " << command;
    }
    const std::string option = shell == std::string("fish") ? "-l tolerance" : "--tolerance";
    EXPECT_NE(ran.out.find(option), std::string::npos) << shell;
  }
  const TempDir dir;
  std::string script = run_parscope({"completions", "bash"}).out;
  for (const char* words :
       {"con", "help lin", "golden --dig", "golden ''", "golden record ''", "check --dtype b"}) {
    script += "COMP_WORDS=(parscope " + std::string(words) +
              "); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _parscope; echo \"${COMPREPLY[@]}\"\n";
  }
  put_file(dir / "c.bash", script);
  const Ran bash = run_program({"/bin/bash", dir / "c.bash"});
  EXPECT_EQ(bash.out, "convert\nlint\n--digest\nverify record\n\nbf16\n") << bash.err;
  expect_bad_input(run_parscope({"completions", "tcsh"}), "does not know this shell");
}

}  // namespace
}  // namespace ps
