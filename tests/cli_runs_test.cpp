// trace, generate, lint and golden from end to end: what is recorded is what the engine computed.
#include <algorithm>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/trace.h"
#include "tests/support/program.h"
#include "tests/support/run.h"
#include "tests/support/temp_dir.h"

namespace ps {
namespace {

namespace fs = std::filesystem;

class CliRuns : public ::testing::Test {
 protected:
  void SetUp() override { PS_NEEDS_REFERENCE(); }

  // Records a trace of the byte-level model and opens it.
  Trace trace(std::vector<std::string> words, const fs::path& model = bytes_model()) {
    const std::string out = temp_ / ("t" + std::to_string(traces_++));
    words.insert(words.begin(), {"trace", model.string(), "-o", out, "--engine", "reference"});
    const Ran ran = run_parscope(words);
    EXPECT_EQ(ran.code, 0) << ran.err;
    EXPECT_EQ(ran.err, "");
    const Ran lint = run_parscope({"lint", out});
    EXPECT_EQ(lint.code, 0) << lint.out << lint.err;
    EXPECT_NE(lint.out.find("nothing wrong found"), std::string::npos) << lint.out;
    return value_or_die(Trace::open(out));
  }
  std::string tokens(const std::string& text) {
    const std::string path = temp_ / "tokens.json";
    put_file(path, text);
    return path;
  }

  TempDir temp_;
  int traces_ = 0;
};

Shape shape_of(const TraceStep& step, const std::string& name) {
  const TensorView* view = step.tensors->find(name);
  return view == nullptr ? Shape{-1} : view->shape;
}

TEST_F(CliRuns, PromptIsTracedByteByByteWithEveryPoint) {
  const Trace t = trace({"--prompt", "def f("});
  ASSERT_EQ(t.steps().size(), 1u);
  const TraceStep& step = t.steps()[0];
  ASSERT_NE(step.tensors->find("input_ids"), nullptr);
  const auto ids = step.tensors->find("input_ids")->as<std::int64_t>();
  const std::string prompt = "def f(";
  EXPECT_TRUE(std::equal(ids.begin(), ids.end(), prompt.begin(), prompt.end()));
  EXPECT_EQ(shape_of(step, "attention_mask"), Shape{-1});
  EXPECT_EQ(shape_of(step, "lm_head"), (Shape{1, 6, 256}));
  EXPECT_EQ(shape_of(step, "model.layers.3.self_attn:k_cache"), (Shape{4, 2, 8 + 6, 32}));
  EXPECT_EQ(t.manifest().dtype, DType::kBF16);
  EXPECT_EQ(step.tensors->find("lm_head")->dtype, DType::kBF16);
  EXPECT_EQ(nlohmann::json::parse(t.manifest().model_json),
            nlohmann::json::parse(get_file(bytes_model() / "config.json")));
}

TEST_F(CliRuns, StepsContinueTheCacheWithTheLikeliestToken) {
  const Trace t = trace({"--random", "3x7", "--seed", "11", "--steps", "2", "--dtype", "f32"});
  ASSERT_EQ(t.steps().size(), 3u);
  for (std::int64_t s = 1; s <= 2; ++s) {
    const TraceStep& step = t.steps()[static_cast<std::size_t>(s)];
    EXPECT_TRUE(step.greedy);
    EXPECT_EQ(shape_of(step, "input_ids"), (Shape{3, 1}));
    EXPECT_EQ(shape_of(step, "attention_mask"), (Shape{3, 7 + s}));
    EXPECT_EQ(shape_of(step, "model.layers.0.self_attn:v_cache"), (Shape{12, 2, 8 + 7 + s, 32}));
    const TensorView logits = *t.steps()[static_cast<std::size_t>(s - 1)].tensors->find("lm_head");
    const std::int64_t length = logits.shape[1];
    for (std::int64_t b = 0; b < 3; ++b) {
      const auto row = logits.as<float>().subspan(
          static_cast<std::size_t>((b * length + length - 1) * 256), 256);
      EXPECT_EQ(step.tensors->find("input_ids")->as<std::int64_t>()[static_cast<std::size_t>(b)],
                std::max_element(row.begin(), row.end()) - row.begin());
    }
  }
}

TEST_F(CliRuns, ChunksGiveTheLogitsOfOnePass) {
  const std::vector<std::string> run = {"--random", "2x11", "--dtype", "f64", "--steps", "1"};
  std::vector<std::string> chunked = run;
  chunked.insert(chunked.end(), {"--chunk", "4"});
  const Trace whole = trace(run), parts = trace(chunked);
  ASSERT_EQ(whole.steps().size(), 2u);
  ASSERT_EQ(parts.steps().size(), 4u);  // 4 + 4 + 3 tokens, and one more
  EXPECT_EQ(shape_of(parts.steps()[2], "input_ids"), (Shape{2, 3}));
  EXPECT_EQ(shape_of(parts.steps()[1], "attention_mask"), (Shape{2, 8}));
  const TensorView a = *whole.steps()[1].tensors->find("lm_head");
  const TensorView b = *parts.steps()[3].tensors->find("lm_head");
  ASSERT_EQ(a.shape, b.shape);
  for (std::int64_t i = 0; i < a.count(); ++i) {
    ASSERT_NEAR(value_at(a, i), value_at(b, i), 1e-10) << i;
  }
}

TEST_F(CliRuns, BeamsReorderTheCacheBetweenSteps) {
  const Trace t = trace({"--random", "2x5", "--beams", "3", "--steps", "2"});
  ASSERT_EQ(t.steps().size(), 5u);
  EXPECT_EQ(shape_of(t.steps()[0], "input_ids"), (Shape{6, 5}));
  for (const std::size_t s : {1u, 3u}) {
    const TraceStep& step = t.steps()[s];
    EXPECT_EQ(step.op, StepOp::kReorderCache);
    ASSERT_EQ(step.beam_idx.size(), 6u);
    for (std::size_t row = 0; row < 6; ++row) {
      EXPECT_EQ(step.beam_idx[row] / 3, static_cast<std::int64_t>(row / 3)) << "leaves its sample";
    }
  }
  EXPECT_EQ(t.steps()[1].beam_idx, (std::vector<std::int64_t>{0, 0, 0, 3, 3, 3}));
}

TEST_F(CliRuns, OnlyTheWantedPointsAreRecorded) {
  const Trace t = trace({"--prompt", "abc", "--steps", "1", "--points", "model.layers.2.mlp*",
                         "--points", "model:mask"});
  ASSERT_EQ(t.steps().size(), 2u);
  std::vector<std::string> names;
  for (const auto& entry : t.steps()[1].tensors->entries()) names.push_back(entry.name);
  std::sort(names.begin(), names.end());
  EXPECT_EQ(names, (std::vector<std::string>{
                       "input_ids", "model.layers.2.mlp.down_proj", "model.layers.2.mlp.gate_proj",
                       "model.layers.2.mlp.up_proj", "model.layers.2.mlp:act", "model:mask"}));
}

TEST_F(CliRuns, GradientsHaveTheShapesOfTheirWeights) {
  const Model model = value_or_die(open_model(bytes_model()));
  for (const char* loss : {"sum", "next-token"}) {
    const Trace t = trace({"--random", "2x7", "--gradients", loss, "--dtype", "f32"});
    ASSERT_EQ(t.steps().size(), 1u);
    for (const WeightSpec& weight : expected_weights(model.config)) {
      EXPECT_EQ(shape_of(t.steps()[0], "grad/" + weight.name), weight.shape) << weight.name;
    }
  }
  const Trace some = trace({"--prompt", "abc", "--gradients", "sum", "--points", "grad/*prefix_k"});
  EXPECT_EQ(some.steps()[0].tensors->entries().size(), 4u + 1u);  // one a layer, and input_ids
}

TEST_F(CliRuns, TokensMaskAndPositionsReachTheModelAsGiven) {
  const Trace t = trace({"--tokens", tokens(R"({"input_ids":[[5,6,7],[8,9,10]],
      "attention_mask":[[0,1,1],[1,1,1]],"position_ids":[[1,0,1],[40,41,42]]})")});
  const TraceStep& step = t.steps()[0];
  const auto positions = step.tensors->find("position_ids")->as<std::int64_t>();
  EXPECT_EQ(std::vector<std::int64_t>(positions.begin(), positions.end()),
            (std::vector<std::int64_t>{1, 0, 1, 40, 41, 42}));
  const auto mask = step.tensors->find("attention_mask")->as<std::int64_t>();
  EXPECT_EQ(mask[0], 0);
  EXPECT_EQ(mask[3], 1);
}

TEST_F(CliRuns, RowsThatEndInPaddingCannotBeContinued) {
  const std::string file =
      tokens(R"({"input_ids":[[5,6,7],[8,9,0]],"attention_mask":[[1,1,1],[1,1,0]]})");
  trace({"--tokens", file});
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"trace", bytes_model(), "-o", temp_ / "x", "--engine", "reference",
                                 "--steps", "1"},
        std::vector<std::string>{"generate", bytes_model(), "--engine", "reference", "--new",
                                 "1"}}) {
    std::vector<std::string> all = words;
    all.insert(all.end(), {"--tokens", file});
    expect_bad_input(run_parscope(all), "row 1 ends in padding");
  }
}

// What the command records is bit by bit what the reference hands out.
TEST_F(CliRuns, TraceOfAGoldenCaseIsWhatTheReferenceTapped) {
  const fs::path dir = fixtures_dir() / "golden/parscale/ps_n4_t5_leftpad_posids";
  const Trace stored = value_or_die(Trace::open(dir / "expected"));
  const StepInputs inputs = value_or_die(step_inputs(stored.steps()[0], 0));
  const auto rows = [&](const std::vector<std::int64_t>& values) {
    nlohmann::json out;
    for (std::int64_t b = 0; b < inputs.batch; ++b) {
      out.push_back(std::vector<std::int64_t>(values.begin() + b * inputs.length,
                                              values.begin() + (b + 1) * inputs.length));
    }
    return out;
  };
  ASSERT_TRUE(inputs.attention_mask && inputs.position_ids);
  const nlohmann::json file = {{"input_ids", rows(inputs.input_ids)},
                               {"attention_mask", rows(*inputs.attention_mask)},
                               {"position_ids", rows(*inputs.position_ids)}};
  const Trace recorded =
      trace({"--tokens", tokens(file.dump()), "--dtype", "f32", "--threads", "1"}, dir);

  const Model model = value_or_die(open_model(dir));
  ReferenceOptions options;
  options.dtype = DType::kF32;
  options.threads = 1;
  const std::unique_ptr<Reference> reference = value_or_die(open_reference(model, options));
  KeepAll tapped;
  ok_or_die(reference->forward(inputs, tapped));

  const SafetensorsFile& tensors = *recorded.steps()[0].tensors;
  EXPECT_EQ(tensors.entries().size(), tapped.points.size() + 3);  // the inputs
  for (const auto& [name, value] : tapped.points) {
    const TensorView* found = tensors.find(name);
    ASSERT_NE(found, nullptr) << name;
    EXPECT_EQ(found->dtype, value.dtype()) << name;
    EXPECT_EQ(found->shape, value.shape()) << name;
    const TensorView expected = value.view();
    EXPECT_TRUE(std::equal(found->bytes.begin(), found->bytes.end(), expected.bytes.begin(),
                           expected.bytes.end()))
        << name;
  }
}

TEST_F(CliRuns, GenerateSaysTheSameWithAndWithoutItsCache) {
  const std::string ragged = tokens(R"({"input_ids":[[0,0,100,101],[102,32,40,41]],
                                       "attention_mask":[[0,0,1,1],[1,1,1,1]]})");
  for (const std::vector<std::string>& prompt :
       {std::vector<std::string>{"--prompt", "def forward(self, x"},
        std::vector<std::string>{"--tokens", ragged}}) {
    std::vector<std::string> words = {"generate", bytes_model(), "--engine", "reference",
                                      "--new",    "17",          "--dtype",  "f32"};
    words.insert(words.end(), prompt.begin(), prompt.end());
    const Ran cached = run_parscope(words);
    words.push_back("--no-cache");
    const Ran fresh = run_parscope(words);
    EXPECT_EQ(cached.code, 0) << cached.err;
    EXPECT_EQ(fresh.code, 0) << fresh.err;
    EXPECT_EQ(cached.out, fresh.out);
    EXPECT_GT(cached.out.size(), 17u);
  }
}

TEST_F(CliRuns, GeneratedTextStartsWithThePromptAndIsTheTokensOfJson) {
  const std::vector<std::string> words = {
      "generate", bytes_model(), "--engine", "reference", "--prompt",
      "if ",      "--new",       "5",        "--beams",   "3"};
  const Ran text = run_parscope(words);
  EXPECT_TRUE(text.out.starts_with("if ")) << text.out;
  EXPECT_EQ(text.out.size(), 3u + 5u + 1u);
  std::vector<std::string> as_json = words;
  as_json.push_back("--json");
  const auto json = nlohmann::json::parse(run_parscope(as_json).out);
  std::string from_json;
  for (const int id : json["sequences"][0].get<std::vector<int>>()) {
    from_json += static_cast<char>(id);
  }
  EXPECT_EQ(text.out, from_json + "\n");
}

TEST_F(CliRuns, NoCacheWithBeamsIsBadUsage) {
  expect_bad_input(run_parscope({"generate", bytes_model(), "--engine", "reference", "--prompt",
                                 "x", "--beams", "2", "--no-cache"}),
                   "--no-cache: cannot be used with --beams");
}

TEST_F(CliRuns, PromptsNeedAByteLevelModel) {
  expect_bad_input(
      run_parscope({"generate", fixtures_dir() / "golden/parscale/ps_n1_eager", "--prompt", "x"}),
      "--prompt: only for byte-level models; give --tokens instead");
}

TEST_F(CliRuns, GoldenVerifyCountsWhatFails) {
  const fs::path golden = fixtures_dir() / "golden/parscale";
  fs::create_directory(temp_ / "g");
  for (const char* name : {"ps_n1_eager", "ps_n2_t0"}) {
    fs::copy(golden / name, temp_ / ("g/" + std::string(name)), fs::copy_options::recursive);
  }
  const Ran good = run_parscope({"golden", "verify", temp_ / "g", "--engine", "reference"});
  EXPECT_EQ(good.code, 0) << good.out << good.err;
  EXPECT_NE(good.out.find("2 passed, 0 failed\n"), std::string::npos) << good.out;
  put_file(temp_ / "g/ps_n2_t0/meta.json", "{\"dtype\": \"float8\"}");
  const Ran bad =
      run_parscope({"golden", "verify", temp_ / "g", "--engine", "reference", "--json"});
  EXPECT_EQ(bad.code, 1);
  const auto json = nlohmann::json::parse(bad.out);
  EXPECT_EQ(json["passed"], 1);
  EXPECT_EQ(json["failed"], 1);
  EXPECT_EQ(json["cases"][1]["name"], "ps_n2_t0");
  EXPECT_EQ(json["cases"][1]["kind"], "parscale");
  EXPECT_EQ(json["cases"][1]["verdict"], "fail");
  const Ran quiet =
      run_parscope({"golden", "verify", temp_ / "g", "--engine", "reference", "--quiet"});
  EXPECT_EQ(quiet.out.find("ps_n1_eager"), std::string::npos) << quiet.out;
  EXPECT_NE(quiet.out.find("FAIL  ps_n2_t0"), std::string::npos) << quiet.out;
}

}  // namespace
}  // namespace ps
