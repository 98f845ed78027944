// diagnose --repro: one cell of one point is changed in a good trace; the script must find that
// cell, and nothing else, with torch's own ops. Planted and seen red: keys tiled over the heads,
// the bias left out of the file, epsilon of another size.
#include <cstdlib>
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "tests/support/program.h"

namespace ps {
namespace {

namespace fs = std::filesystem;

// Where a python with torch and safetensors is; PARSCOPE_TEST_PYTHON names another than python3.
std::string python() {
  const char* chosen = std::getenv("PARSCOPE_TEST_PYTHON");
  if (chosen != nullptr) return chosen;
  if (fs::exists("/usr/local/bin/python3")) return "/usr/local/bin/python3";
  return "/usr/bin/python3";
}
bool has_torch() {
  static const bool has =
      run_program({python(), "-c", "import torch, safetensors.torch"}).code == 0;
  return has;
}

class Repro : public ::testing::Test {
 protected:
  // Two prompts (one of them padded) and a decode step, in float32.
  static void SetUpTestSuite() {
    if (!has_reference()) return;
    good_ = new TempDir;
    const Ran ran =
        run_parscope({"trace", bytes_model(), "--engine", "model", "--random", "3x5", "--seed",
                      "11", "--steps", "1", "--dtype", "f32", "-o", *good_ / "trace"});
    ASSERT_EQ(ran.code, 0) << ran.err;
  }
  static void TearDownTestSuite() {
    delete good_;
    good_ = nullptr;
  }

  // The good trace with one cell of `point` changed in `step`, without the points in `without`.
  fs::path wrong_trace(const std::string& point, int step,
                       const std::set<std::string>& without = {}) {
    const fs::path out = dir_ / ("trace-" + std::to_string(++made_));
    fs::create_directory(out);
    for (const auto& [name, bytes] : contents(*good_ / "trace")) put_file(out / name, bytes);
    for (int s = 0; s <= 1; ++s) {
      const std::string file = "step-0000" + std::to_string(s) + ".rank-00000.safetensors";
      edit_tensors(*good_ / "trace" / file, out / file, [&](const std::string& name, Tensor& t) {
        if (name == point && s == step) {
          t.as<float>()[t.as<float>().size() - 2] += 0.375F;  // the last row is never padding
        }
        return !without.contains(name);
      });
    }
    return out;
  }
  Ran diagnose(const fs::path& trace, const fs::path& out) {
    return run_parscope({"diagnose", trace, "--model", bytes_model(), "--repro", out});
  }
  TempDir dir_;
  int made_ = 0;
  static TempDir* good_;
};
TempDir* Repro::good_ = nullptr;

struct Case {
  const char* point;
  int step;
  const char* words;  // in the script
};
constexpr Case kCases[] = {
    {"model:replicated", 0, ".repeat(4, 1, 1)"},
    {"model.layers.0.input_layernorm", 0, "torch.rsqrt"},
    {"model.layers.1.self_attn.k_proj", 0, "model.layers.1.self_attn.k_proj.bias"},
    {"model.layers.1.self_attn:q_rope", 1, "torch.cat([-h2, h1], -1)"},
    {"model.layers.0.self_attn:k_cache", 0, "prefix = w[0].repeat_interleave(3, 0)"},
    {"model.layers.2.self_attn:v_cache", 1, "past:model.layers.2.self_attn:v_cache"},
    {"model.layers.3.self_attn:scores", 1, "repeat_interleave(2, 1)"},
    {"model.layers.3.self_attn:probs", 0, "masked_fill"},
    {"model.layers.3.self_attn:context", 0, ".transpose(1, 2).flatten(2)"},
    {"model.layers.2.self_attn.o_proj", 0, "F.linear"},
    {"model.layers.2:attn_residual", 0, "x[0] + x[1]"},
    {"model.layers.2.mlp:act", 0, "F.silu(x[0]) * x[1]"},
    {"model:aggregate_input", 0, ".permute(1, 2, 3, 0).flatten(2)"},
    {"model.aggregate_layer.2", 0, "F.silu(x[0])"},
    {"model:aggregate_weights", 0, "torch.softmax(x[0], -1) * (1 - s)"},
    {"model:aggregated", 1, ".permute(2, 0, 1)"},
    {"lm_head", 0, "model.embed_tokens.weight"},
};

TEST_F(Repro, ScriptsFindThePlantedCell) {
  PS_NEEDS_REFERENCE();
  std::string driver = "import runpy, sys\n";
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.point);
    const fs::path out = dir_ / (std::string("repro") + std::to_string(&c - kCases));
    const Ran ran = diagnose(wrong_trace(c.point, c.step), out);
    ASSERT_EQ(ran.code, 1) << ran.err;
    EXPECT_NE(ran.err.find("python3 " + out.string() + "/repro.py"), std::string::npos) << ran.err;
    const std::string script = get_file(out / "repro.py");
    EXPECT_NE(script.find(c.words), std::string::npos) << script;
    EXPECT_TRUE(script.starts_with("# " + std::string(c.point) + ", step ")) << script;
    const Result<SafetensorsFile> file = SafetensorsFile::open(out / "repro.safetensors");
    ASSERT_TRUE(file.ok()) << file.error().line();
    for (const char* name : {"candidate", "expected", "bound"}) {
      ASSERT_NE(file->find(name), nullptr) << name;
      EXPECT_EQ(file->find(name)->shape, file->find("candidate")->shape) << name;
    }
    driver += "print('case', " + std::to_string(&c - kCases) + ", flush=True)\n";
    driver += "try: runpy.run_path('" + (out / "repro.py").string() + "')\n";
    driver += "except SystemExit as e: print('exit', e.code, flush=True)\n";
  }
  if (!has_torch()) GTEST_SKIP() << python() << " has no torch: the scripts were only read";
  put_file(dir_ / "driver.py", driver);
  const Ran ran = run_program({python(), dir_ / "driver.py"});
  EXPECT_EQ(ran.code, 0) << ran.err;
  std::size_t at = 0;
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.point);
    const std::size_t begin = ran.out.find("case " + std::to_string(&c - kCases), at);
    ASSERT_NE(begin, std::string::npos) << ran.out;
    at = ran.out.find("exit 1", begin);
    const std::string mine = ran.out.substr(begin, at - begin);
    ASSERT_NE(at, std::string::npos) << mine;
    EXPECT_NE(mine.find("beyond rounding in 1 of"), std::string::npos) << mine;
    const std::string says = "differ by at most ";
    const std::size_t number = mine.find(says);
    ASSERT_NE(number, std::string::npos) << mine;
    EXPECT_LT(std::stod(mine.substr(number + says.size())), 1e-9) << mine;
  }
}

// What lies between was not captured: the script compares with the stored right value.
TEST_F(Repro, ChainsCompareStoredValues) {
  PS_NEEDS_REFERENCE();
  const fs::path out = dir_ / "repro";
  const std::set<std::string> without = {"model.layers.1.self_attn:scores",
                                         "model.layers.1.self_attn:probs"};
  const Ran ran = diagnose(wrong_trace("model.layers.1.self_attn:context", 0, without), out);
  EXPECT_EQ(ran.code, 1) << ran.err;
  const std::string script = get_file(out / "repro.py");
  EXPECT_NE(script.find("# 3 ops lie between"), std::string::npos) << script;
  EXPECT_NE(script.find("y = expected\n"), std::string::npos) << script;
  EXPECT_EQ(script.find("differ by at most"), std::string::npos) << script;
  if (!has_torch()) GTEST_SKIP() << python() << " has no torch";
  const Ran shown = run_program({python(), out / "repro.py"});
  EXPECT_EQ(shown.code, 1) << shown.err;
  EXPECT_NE(shown.out.find("beyond rounding in 1 of"), std::string::npos) << shown.out;
}

TEST_F(Repro, WritesNothingWhereItMayNotOrNeedNot) {
  PS_NEEDS_REFERENCE();
  const Ran clean = diagnose(*good_ / "trace", dir_ / "none");
  EXPECT_EQ(clean.code, 0) << clean.err;
  EXPECT_NE(clean.err.find("no reproduction: nothing diverged"), std::string::npos) << clean.err;
  EXPECT_FALSE(fs::exists(dir_ / "none"));
  fs::create_directory(dir_ / "full");
  put_file(dir_ / "full" / "mine.txt", "x");
  expect_bad_input(diagnose(*good_ / "trace", dir_ / "full"), "one that holds files");
  expect_bad_input(diagnose(*good_ / "trace", dir_ / "full" / "mine.txt"), "is in the way");
  EXPECT_EQ(contents(dir_ / "full").size(), 1u);
}

}  // namespace
}  // namespace ps
