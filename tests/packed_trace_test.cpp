// Packed traces are traces: every command reads them, says of them what it says of plain ones, and
// makes plain ones of them again, byte for byte.
#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "core/trace.h"
#include "core/zstd.h"
#include "tests/support/program.h"
#include "tests/support/run.h"

namespace ps {
namespace {

namespace fs = std::filesystem;

const char* const kPlain = "step-00000.rank-00000.safetensors";
const char* const kPacked = "step-00000.rank-00000.safetensors.packed";

fs::path model_dir() { return fixtures_dir() / "golden" / "parscale" / "ps_n2_t3_decode8"; }
fs::path expected() { return model_dir() / "expected"; }

class PackedTrace : public testing::Test {
 protected:
  void SetUp() override {
    if (!has_zstd()) GTEST_SKIP() << "built without zstd";
    convert(expected(), "plain");
    convert(expected(), "packed", {"--compress"});
  }
  void convert(const fs::path& from, const std::string& to, std::vector<std::string> more = {}) {
    std::vector<std::string> words = {"convert", from, "-o", dir_ / to, "--quiet"};
    words.insert(words.end(), more.begin(), more.end());
    const Ran ran = run_parscope(words);
    ASSERT_EQ(ran.code, 0) << ran.err;
  }
  // What a command says, but for the trace's own path and the time it took.
  Ran said_of(const std::string& trace, std::vector<std::string> words) {
    const std::string path = dir_ / trace;
    for (std::string& word : words) {
      if (word == "TRACE") word = path;
    }
    Ran ran = run_parscope(words);
    for (std::string* text : {&ran.out, &ran.err}) {
      for (std::size_t at = 0; (at = text->find(path, at)) != text->npos;) {
        text->replace(at, path.size(), "TRACE");
      }
      // How long it took may differ; "timing" comes last.
      text->resize(std::min(text->size(), text->find("\n  \"timing\"")));
    }
    return ran;
  }
  TempDir dir_;
};

TEST_F(PackedTrace, BecomesThePlainOneAgain) {
  const auto files = contents(dir_ / "packed");
  EXPECT_EQ(files.count(kPacked), 1u);
  EXPECT_EQ(files.count(kPlain), 0u);
  EXPECT_TRUE(files.at(kPacked).starts_with("PSPACK/1"));
  convert(dir_ / "packed", "again");
  EXPECT_EQ(contents(dir_ / "again"), contents(dir_ / "plain"));
  convert(dir_ / "packed", "repacked", {"--compress=5"});
  convert(dir_ / "repacked", "once more");
  EXPECT_EQ(contents(dir_ / "once more"), contents(dir_ / "plain"));
}

TEST_F(PackedTrace, EveryCommandSaysTheSameOfIt) {
  const std::string other =
      fixtures_dir() / "golden" / "parscale" / "ps_n2_t3_decode8" / "expected-f64";
  std::vector<std::vector<std::string>> commands = {
      {"diff", "TRACE", other, "--json"},
      {"diff", other, "TRACE", "--json"},
      {"diff", "TRACE", "TRACE"},
      {"lint", "TRACE", "--json"},
  };
  if (has_reference()) commands.push_back({"diagnose", "TRACE", "--model", model_dir(), "--json"});
  for (const std::vector<std::string>& words : commands) {
    const Ran plain = said_of("plain", words), packed = said_of("packed", words);
    EXPECT_NE(plain.out, "") << words[0] << plain.err;
    EXPECT_EQ(packed.code, plain.code) << words[0];
    EXPECT_TRUE(packed.out == plain.out) << words[0];  // too long to be shown
    EXPECT_EQ(packed.err, plain.err) << words[0];
  }
  EXPECT_EQ(run_parscope({"diff", dir_ / "packed", dir_ / "plain"}).code, 0);
}

TEST_F(PackedTrace, ATensorOfItIsAMask) {
  for (const std::string name : {kPacked, kPlain}) {
    const std::string dir = dir_ / ("run of " + name);
    std::vector<std::string> words = {
        "trace", fixtures_dir() / "models" / "parscale-bytes", "--random", "1x5", "-o", dir};
    if (name == kPacked) words.push_back("--compress");
    ASSERT_EQ(run_parscope(words).code, 0);
    const Ran ran = run_parscope(
        {"mask", "show", dir + "/" + name + ":model.layers.0.self_attn:probs", "--form", "masked"});
    EXPECT_EQ(ran.code, 1) << ran.err;  // queries without a key
    EXPECT_EQ(ran.out.find("[4,4,5,13]: 160 pairs allowed"), 0u) << ran.out;
  }
}

TEST_F(PackedTrace, AWrongCellIsFoundInIt) {
  edit_tensors(expected() / kPlain, dir_ / "plain" / kPlain,
               [](const std::string& name, Tensor& t) {
                 if (name == "model.norm") t.as<float>()[5] += 0.5F;
                 return true;
               });
  convert(dir_ / "plain", "packed", {"--compress"});
  const Ran ran = run_parscope({"diff", dir_ / "packed", expected()});
  EXPECT_EQ(ran.code, 1) << ran.err;
  EXPECT_NE(ran.out.find("model.norm"), std::string::npos) << ran.out;
}

TEST_F(PackedTrace, NeedsNoManifestAndOneFileIsOneToo) {
  fs::remove(dir_ / "packed" / "trace.json");
  fs::remove(dir_ / "plain" / "trace.json");
  EXPECT_EQ(run_parscope({"diff", dir_ / "packed", dir_ / "plain"}).code, 0);
  EXPECT_EQ(run_parscope({"diff", dir_ / "packed" / kPacked, dir_ / "plain" / kPlain}).code, 0);
  fs::copy_file(dir_ / "plain" / kPlain, dir_ / "packed" / kPlain);
  expect_bad_input(run_parscope({"diff", dir_ / "packed", dir_ / "plain"}),
                   "holds one step of one rank twice");
}

TEST_F(PackedTrace, TakesThePlaceOfAPlainOneAndLeavesItsOwn) {
  convert(expected(), "plain", {"--compress"});
  EXPECT_EQ(contents(dir_ / "plain"), contents(dir_ / "packed"));
  convert(expected(), "plain");
  EXPECT_EQ(contents(dir_ / "plain").count(kPacked), 0u);
}

TEST_F(PackedTrace, DamageIsOneLineAndNothingIsLeft) {
  const std::string good = get_file(dir_ / "packed" / kPacked);
  const auto try_with = [&](const std::string& bytes, std::string_view says) {
    put_file(dir_ / "packed" / kPacked, bytes);
    expect_bad_input(run_parscope({"diff", dir_ / "packed", dir_ / "plain"}), says);
    expect_bad_input(run_parscope({"convert", dir_ / "packed", "-o", dir_ / "out"}), says);
    EXPECT_FALSE(fs::exists(dir_ / "out" / kPlain));
  };
  std::string bad = good;
  bad[good.size() / 2] = static_cast<char>(bad[good.size() / 2] ^ 4);
  try_with(bad, "is damaged: expected CRC-32 ");
  try_with(good.substr(0, good.size() - 1000), "is damaged, or it is cut off");
  try_with(good.substr(0, 12), "is cut off");
  bad = good;
  bad[15] = '\x7f';
  try_with(bad, "larger than any file");
}

TEST_F(PackedTrace, LevelsAreOneToNineteenAndNoWordOfTheirOwn) {
  for (const char* wrong : {"--compress=0", "--compress=20", "--compress=x"}) {
    expect_bad_input(run_parscope({"convert", expected(), "-o", dir_ / "t", wrong}),
                     "a whole number from 1 to 19");
  }
  const Ran ran = run_parscope({"convert", "--compress", expected(), "-o", dir_ / "t"});
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_TRUE(fs::exists(dir_ / "t" / kPacked));
}

TEST_F(PackedTrace, RunsAndGoldensAreWrittenSo) {
  const std::vector<std::string> run = {"trace",   bytes_model(), "--prompt", "x = 1",
                                        "--steps", "1",           "--engine", "model"};
  const auto traced = [&](const std::string& to, std::vector<std::string> more) {
    more.insert(more.end(), {"-o", dir_ / to});
    more.insert(more.begin(), run.begin(), run.end());
    const Ran ran = run_parscope(more);
    ASSERT_EQ(ran.code, 0) << ran.err;
  };
  traced("a", {});
  traced("b", {"--compress"});
  EXPECT_TRUE(fs::exists(dir_ / "b" / kPacked));
  convert(dir_ / "b", "b plain");
  EXPECT_EQ(contents(dir_ / "b plain").at(kPlain), contents(dir_ / "a").at(kPlain));
  traced("ranks", {"--tp", "2", "--compress"});
  EXPECT_TRUE(fs::exists(dir_ / "ranks" / "step-00001.rank-00001.safetensors.packed"));
  EXPECT_EQ(run_parscope({"diff", dir_ / "ranks", dir_ / "a"}).code, 0);
  const Ran kept =
      run_parscope({"golden", "record", dir_ / "b", "-o", dir_ / "golden", "--compress"});
  ASSERT_EQ(kept.code, 0) << kept.err;
  EXPECT_TRUE(fs::exists(dir_ / "golden" / "trace" / kPacked));
  const Ran verified = run_parscope({"golden", "verify", dir_ / "golden", "--against", dir_ / "a"});
  EXPECT_EQ(verified.code, 0) << verified.out << verified.err;
}

}  // namespace
}  // namespace ps
