// diff/run: where tokens come from, the steps made of them, and what is recorded.
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "core/trace.h"
#include "diff/run/inputs.h"
#include "diff/run/record.h"
#include "diff/run/script.h"
#include "tests/support/config_text.h"
#include "tests/support/run.h"
#include "tests/support/temp_dir.h"

namespace ps {
namespace {

using Ids = std::vector<std::int64_t>;

ModelConfig config_of(std::int64_t vocab) {
  return value_or_die(
             parse_config(config_text("qwen2", {{"vocab_size", std::to_string(vocab)}}), "test"))
      .config;
}

StepInputs inputs(std::int64_t batch, std::int64_t length) {
  StepInputs in;
  in.batch = batch;
  in.length = length;
  for (std::int64_t i = 0; i < batch * length; ++i) in.input_ids.push_back(10 + i);
  return in;
}

// ---- inputs ------------------------------------------------------------------------------------

TEST(Inputs, PromptIsItsBytes) {
  const StepInputs in = value_or_die(inputs_from_prompt("a\xc3\xa9", config_of(256)));
  EXPECT_EQ(in.batch, 1);
  EXPECT_EQ(in.length, 3);
  EXPECT_EQ(in.input_ids, (Ids{97, 0xc3, 0xa9}));
  EXPECT_FALSE(in.attention_mask || in.position_ids);
  EXPECT_FALSE(inputs_from_prompt("a", config_of(257)).ok());
  EXPECT_FALSE(inputs_from_prompt("", config_of(256)).ok());
}

TEST(Inputs, JsonFieldsComeInAnyOrder) {
  const ModelConfig config = config_of(97);
  const StepInputs in = value_or_die(inputs_from_json(
      R"({"position_ids":[[-1,0,1],[7,8,2147483648]],"attention_mask":[[0,1,1],[1,1,1]],
          "input_ids":[[0,96,3],[4,5,6]]})",
      "f", config));
  EXPECT_EQ(in.batch, 2);
  EXPECT_EQ(in.length, 3);
  EXPECT_EQ(in.input_ids, (Ids{0, 96, 3, 4, 5, 6}));
  EXPECT_EQ(in.attention_mask, (Ids{0, 1, 1, 1, 1, 1}));
  EXPECT_EQ(in.position_ids, (Ids{-1, 0, 1, 7, 8, 2147483648}));
  EXPECT_EQ(value_or_die(inputs_from_json("[[1],[2],[3]]", "f", config)).batch, 3);
}

TEST(Inputs, WrongJsonNamesTheCell) {
  const ModelConfig config = config_of(97);
  const std::map<std::string, std::string> cases = {
      {"[[1,2,3],[4,97,6]]", "f/1/1: token outside the vocabulary: expected 0 to 96, found 97"},
      {"[[1,2,3],[4,-1,6]]", "f/1/1: token outside the vocabulary: expected 0 to 96, found -1"},
      {R"({"input_ids":[[1,2,99]]})", "f/input_ids/0/2: token outside"},
      {"[[1,2],[3,\"4\"]]", "f/1/1: not a whole number: found \"4\""},
      {"[[1,2],[3]]", "f/1: rows differ in length"},
      {"[[1,2],3]", "f/1: not a row of whole numbers: expected [1,2,3], found 3"},
      {R"({"input_ids":[[1,2]],"attention_mask":[[1,1],[1,1]]})",
       "f/attention_mask: needs as many rows as input_ids: expected 1, found 2"},
      {R"({"input_ids":[[1,2]],"attention_mask":[[1,1,1]]})",
       "f/attention_mask/0: needs rows as long as those of input_ids: expected 2 numbers, found 3"},
      {R"({"attention_mask":[[1,3]],"input_ids":[[1,2]]})", "f/attention_mask/0/1: an attention"},
      {R"({"input_ids":[[1,2]],"position_ids":[[0,2147483649]]})",
       "f/position_ids/0/1: position out of range"},
      {R"({"input_ids":[[1,2]],"token_type_ids":[[0,0]]})", "f/token_type_ids: unknown field"},
      {R"({"input_ids":[[1]],"input_ids":[[1]]})", "stands there twice"},
  };
  for (const auto& [text, message] : cases) {
    const Result<StepInputs> in = inputs_from_json(text, "f", config);
    ASSERT_FALSE(in.ok()) << text;
    EXPECT_NE(in.error().line().find(message), std::string::npos) << text << "\n"
                                                                  << in.error().line();
  }
}

TEST(Inputs, NestingIsBounded) {
  for (const int depth : {65, 200'000}) {
    const std::string open(static_cast<std::size_t>(depth), '[');
    const std::string text = open + "1" + std::string(static_cast<std::size_t>(depth), ']');
    EXPECT_FALSE(inputs_from_json(text, "f", config_of(97)).ok());
    EXPECT_FALSE(inputs_from_json("{\"input_ids\":" + text + "}", "f", config_of(97)).ok());
  }
}

TEST(Inputs, RandomRowsAreRaggedOnTheLeftAndRepeatable) {
  const ModelConfig config = config_of(97);
  const StepInputs a = random_inputs(7, 11, 3, config), b = random_inputs(7, 11, 3, config);
  EXPECT_EQ(a.input_ids, b.input_ids);
  EXPECT_EQ(a.attention_mask, b.attention_mask);
  EXPECT_NE(a.input_ids, random_inputs(7, 11, 4, config).input_ids);
  ASSERT_TRUE(a.attention_mask && a.position_ids);
  std::vector<std::int64_t> pads;
  for (std::int64_t row = 0; row < 7; ++row) {
    const auto begin = a.attention_mask->begin() + row * 11;
    pads.push_back(std::count(begin, begin + 11, 0));
    EXPECT_TRUE(std::is_sorted(begin, begin + 11)) << "padding stands on the left";
  }
  EXPECT_EQ(pads[0], 0);
  EXPECT_LE(*std::max_element(pads.begin(), pads.end()), 5);
  EXPECT_GT(*std::max_element(pads.begin(), pads.end()), 0);
  EXPECT_TRUE(std::all_of(a.input_ids.begin(), a.input_ids.end(),
                          [](std::int64_t id) { return id >= 0 && id < 97; }));
}

TEST(Inputs, WithoutPaddingThereIsNoMask) {
  const StepInputs in = random_inputs(1, 5, 1, config_of(97));
  EXPECT_FALSE(in.attention_mask || in.position_ids);
  EXPECT_EQ(random_inputs(1, 1, 1, config_of(97)).input_ids.size(), 1u);
}

TEST(Inputs, PositionsCountRealTokensAndAreOneOnPadding) {
  EXPECT_EQ(positions_of_mask({0, 0, 1, 1, 1, 1, 0, 1}, 2, 4), (Ids{1, 1, 0, 1, 0, 1, 1, 2}));
}

// ---- script ------------------------------------------------------------------------------------

// Logits [rows, length, 7] in which row r's best token is best[r].
Tensor logits_for(const std::vector<std::int64_t>& best, std::int64_t length = 1) {
  Tensor t(DType::kF32, {static_cast<std::int64_t>(best.size()), length, 7});
  for (std::size_t r = 0; r < best.size(); ++r) {
    const std::size_t last =
        (r * static_cast<std::size_t>(length) + static_cast<std::size_t>(length) - 1) * 7;
    t.as<float>()[last + static_cast<std::size_t>(best[r])] = 3;
  }
  return t;
}

TEST(Script, WithoutStepsThePromptIsAllThereIs) {
  Script script({.prompt = inputs(2, 3)});
  EXPECT_EQ(script.total_steps(), 1);
  const auto step = script.next(std::nullopt);
  ASSERT_TRUE(step);
  EXPECT_EQ(step->step.op, StepOp::kForward);
  EXPECT_FALSE(step->step.greedy);
  EXPECT_EQ(step->inputs.input_ids, inputs(2, 3).input_ids);
  EXPECT_EQ(script.past(), 0);
  EXPECT_FALSE(script.next(std::nullopt));
  EXPECT_FALSE(script.next(std::nullopt));
}

TEST(Script, ChunksCutColumnsAndMasksGrow) {
  StepInputs in = inputs(2, 5);
  in.attention_mask = Ids{0, 1, 1, 1, 1, 1, 1, 1, 1, 1};
  in.position_ids = Ids{1, 0, 1, 2, 3, 20, 21, 22, 23, 24};
  Script script({.prompt = in, .decode_steps = 1, .chunk = 2});
  EXPECT_EQ(script.total_steps(), 4);
  const auto a = script.next(std::nullopt), b = script.next(std::nullopt);
  EXPECT_EQ(script.past(), 2);
  const auto c = script.next(std::nullopt);
  EXPECT_EQ(script.past(), 4);
  EXPECT_EQ(a->inputs.input_ids, (Ids{10, 11, 15, 16}));
  EXPECT_EQ(a->inputs.attention_mask, (Ids{0, 1, 1, 1}));
  EXPECT_EQ(b->inputs.input_ids, (Ids{12, 13, 17, 18}));
  EXPECT_EQ(b->inputs.attention_mask, (Ids{0, 1, 1, 1, 1, 1, 1, 1}));
  EXPECT_EQ(b->inputs.position_ids, (Ids{1, 2, 22, 23}));
  EXPECT_EQ(c->inputs.length, 1);
  EXPECT_EQ(c->inputs.input_ids, (Ids{14, 19}));
  const Tensor logits = logits_for({6, 2});
  const auto d = script.next(logits.view());
  ASSERT_TRUE(d);
  EXPECT_EQ(d->step.step, 3);
  EXPECT_TRUE(d->step.greedy);
  EXPECT_EQ(d->inputs.input_ids, (Ids{6, 2}));
  EXPECT_EQ(d->inputs.attention_mask, (Ids{0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}));
  EXPECT_EQ(d->inputs.position_ids, (Ids{4, 25}));
  EXPECT_FALSE(script.next(logits.view()));
}

TEST(Script, ChunkLongerThanThePromptIsOneStep) {
  Script script({.prompt = inputs(1, 3), .chunk = 99});
  EXPECT_EQ(script.total_steps(), 1);
  EXPECT_EQ(script.next(std::nullopt)->inputs.length, 3);
}

TEST(Script, GreedyTakesTheLastPositionAndTheSmallerIndexOfATie) {
  Script script({.prompt = inputs(2, 3), .decode_steps = 2});
  script.next(std::nullopt);
  Tensor all = logits_for({5, 1}, 3);
  all.as<float>()[0] = 9;  // the first position of row 0 does not count
  all.as<float>()[2 * 7 + 3] = 3;
  EXPECT_EQ(script.next(all.view())->inputs.input_ids, (Ids{3, 1}));
  const Tensor one = logits_for({4, 0});  // a candidate may give the last position alone
  EXPECT_EQ(script.next(one.view())->inputs.input_ids, (Ids{4, 0}));
}

TEST(Script, GreedyTellsApartLogitsThatASoftmaxRoundsTogether) {
  Script script({.prompt = inputs(1, 2), .decode_steps = 1});
  script.next(std::nullopt);
  Tensor t(DType::kF32, {1, 1, 7});
  t.as<float>()[4] = 1e-30f;
  EXPECT_EQ(script.next(t.view())->inputs.input_ids, (Ids{4}));
}

TEST(Script, NanIsNeverTheBestToken) {
  Script script({.prompt = inputs(2, 2), .decode_steps = 1});
  script.next(std::nullopt);
  Tensor t = logits_for({5, 0});
  for (const std::size_t i : {0u, 3u, 6u}) {
    t.as<float>()[i] = std::numeric_limits<float>::quiet_NaN();
  }
  for (std::size_t i = 7; i < 14; ++i) t.as<float>()[i] = std::nanf("");
  EXPECT_EQ(script.next(t.view())->inputs.input_ids, (Ids{5, 0}));
}

TEST(Script, BeamsRepeatRowsAndReorderBeforeEachStep) {
  StepInputs in = inputs(2, 2);
  in.attention_mask = Ids{0, 1, 1, 1};
  in.position_ids = Ids{1, 0, 0, 1};
  Script script({.prompt = in, .decode_steps = 2, .beams = 3});
  EXPECT_EQ(script.total_steps(), 5);
  const auto first = script.next(std::nullopt);
  EXPECT_EQ(first->inputs.batch, 6);
  EXPECT_EQ(first->inputs.input_ids, (Ids{10, 11, 10, 11, 10, 11, 12, 13, 12, 13, 12, 13}));
  EXPECT_EQ(first->inputs.attention_mask, (Ids{0, 1, 0, 1, 0, 1, 1, 1, 1, 1, 1, 1}));

  Tensor t(DType::kF32, {6, 1, 7});
  for (std::size_t row = 0; row < 6; ++row) {
    for (std::size_t v = 0; v < 7; ++v) {
      t.as<float>()[row * 7 + v] = static_cast<float>((v * 3 + (row / 3)) % 7);
    }
  }
  const auto reorder = script.next(t.view());
  EXPECT_EQ(reorder->step.op, StepOp::kReorderCache);
  EXPECT_EQ(reorder->step.step, 1);
  EXPECT_EQ(reorder->step.beam_idx, (Ids{0, 0, 0, 3, 3, 3})) << "copies do not count at first";
  EXPECT_EQ(script.past(), 2);
  const auto decode = script.next(t.view());
  EXPECT_EQ(decode->inputs.input_ids, (Ids{2, 4, 6, 4, 6, 1}));  // v*3 mod 7, largest first
  EXPECT_EQ(decode->inputs.attention_mask,
            (Ids{0, 1, 1, 0, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}));
  EXPECT_EQ(decode->inputs.position_ids, (Ids{1, 1, 1, 2, 2, 2}));
  EXPECT_FALSE(decode->step.greedy);
  EXPECT_EQ(script.past(), 2);

  // Beam 2 of sample 0 becomes certain; the others spread over seven tokens.
  Tensor certain(DType::kF32, {6, 1, 7});
  certain.as<float>()[2 * 7 + 5] = 60;
  const auto second = script.next(certain.view());
  EXPECT_EQ(second->step.beam_idx[0], 0) << "one seventh of 'far likelier' is still likelier";
  EXPECT_EQ(script.past(), 3);
  const auto last = script.next(certain.view());
  EXPECT_EQ(last->step.step, 4);
  EXPECT_FALSE(script.next(certain.view()));
}

// Per sample the sums of log p are those that plain search over all pairs gives.
TEST(Script, BeamsAreTheBestOfAllContinuations) {
  const std::int64_t beams = 2, vocab = 7;
  Script script({.prompt = inputs(1, 3), .decode_steps = 2, .beams = beams});
  script.next(std::nullopt);
  Tensor one(DType::kF32, {2, 1, 7}), two(DType::kF32, {2, 1, 7});
  for (std::size_t i = 0; i < 14; ++i) {
    one.as<float>()[i] = static_cast<float>((i % 7) * 5 % 7) * 0.3f;
    two.as<float>()[i] = static_cast<float>(i * 11 % 13) * 0.4f;
  }
  const auto log_p = [&](const Tensor& t, std::int64_t row, std::int64_t v) {
    double sum = 0;
    for (std::int64_t u = 0; u < vocab; ++u) sum += std::exp(value_at(t.view(), row * vocab + u));
    return value_at(t.view(), row * vocab + v) - std::log(sum);
  };
  const auto reorder_one = script.next(one.view());
  const Ids tokens_one = script.next(one.view())->inputs.input_ids;
  const Ids beam_two = script.next(two.view())->step.beam_idx;
  const Ids tokens_two = script.next(two.view())->inputs.input_ids;
  EXPECT_EQ(reorder_one->step.beam_idx, (Ids{0, 0}));
  std::vector<std::pair<double, std::pair<std::int64_t, std::int64_t>>> all;
  for (std::int64_t b = 0; b < beams; ++b) {
    for (std::int64_t v = 0; v < vocab; ++v) {
      all.push_back(
          {log_p(one, 0, tokens_one[static_cast<std::size_t>(b)]) + log_p(two, b, v), {b, v}});
    }
  }
  std::sort(all.rbegin(), all.rend());
  for (std::size_t b = 0; b < 2; ++b) {
    EXPECT_EQ(beam_two[b], all[b].second.first);
    EXPECT_EQ(tokens_two[b], all[b].second.second);
  }
}

// ---- record ------------------------------------------------------------------------------------

TEST(Matches, StarStandsForAnyRunOfCharacters) {
  EXPECT_TRUE(matches("lm_head", "lm_head"));
  EXPECT_FALSE(matches("lm_head", "lm_head2"));
  EXPECT_FALSE(matches("lm_head2", "lm_head"));
  EXPECT_TRUE(matches("*", ""));
  EXPECT_TRUE(matches("**", "abc"));
  EXPECT_FALSE(matches("", "a"));
  EXPECT_TRUE(matches("", ""));
  EXPECT_TRUE(matches("model.layers.*.mlp*", "model.layers.13.mlp:act"));
  EXPECT_FALSE(matches("model.layers.*.mlp", "model.layers.13.mlp:act"));
  EXPECT_TRUE(matches("*ab", "aab"));
  EXPECT_TRUE(matches("a*b*c", "aXbYbZc"));
  EXPECT_FALSE(matches("a*b*c", "aXcYb"));
  EXPECT_FALSE(matches("model?norm", "model.norm")) << "only '*' is special";
  const std::string name(3000, 'a');
  EXPECT_FALSE(matches("*a*a*a*a*a*a*a*a*b", name));  // and in no time
}

// Gives each step's number as its logits; fails where it is told to.
class Parrot final : public Engine {
 public:
  explicit Parrot(std::int64_t fails_at = -1) : fails_at_(fails_at) {}
  Result<void> forward(const StepInputs& in, Tap& tap) override {
    if (calls_ == fails_at_) return machine_error("parrot", "fell off its perch");
    const Tensor logits = logits_for(Ids(static_cast<std::size_t>(in.batch), calls_++ % 7));
    const std::vector<float> x(static_cast<std::size_t>(in.batch * in.length), 0.5f);
    const Tensor norm = Tensor::of<float>(DType::kF32, {in.batch, in.length}, x);
    if (tap.wants("model.norm")) tap.take("model.norm", norm.view());
    if (tap.wants("lm_head")) tap.take("lm_head", logits.view());
    past_ += in.length;
    return {};
  }
  Result<void> reorder_cache(const std::vector<std::int64_t>& beam_idx, Tap& tap) override {
    const Tensor t = Tensor::of<std::int64_t>(
        DType::kI64, {static_cast<std::int64_t>(beam_idx.size())}, beam_idx);
    if (tap.wants("cache")) tap.take("cache", t.view());
    return {};
  }
  void reset() override { past_ = 0; }
  std::int64_t past() const override { return past_; }
  Result<Generated> generate(const StepInputs&, std::int64_t, std::int64_t) override {
    return machine_error("parrot", "cannot");
  }

 private:
  std::int64_t fails_at_, calls_ = 0, past_ = 0;
};

TEST(Record, StepsPointsAndBytesAreCountedAndWritten) {
  const TempDir dir;
  Parrot parrot;
  std::vector<std::int64_t> seen;
  RecordOptions options;
  options.progress = [&](std::int64_t step, std::int64_t total) {
    seen.push_back(step);
    EXPECT_EQ(total, 5);
  };
  const Recorded r = value_or_die(record(
      parrot, {.prompt = inputs(2, 3), .decode_steps = 2, .beams = 2}, dir / "t", {}, options));
  EXPECT_EQ(r.steps, 5);
  EXPECT_EQ(r.points, 3 * 2 + 2);
  EXPECT_EQ(r.bytes, 3 * (4 * 7 * 4) + 4 * (12 + 4 + 4) + 2 * (4 * 8));
  EXPECT_EQ(seen, (Ids{0, 1, 2, 3, 4}));
  const Trace trace = value_or_die(Trace::open(dir / "t"));
  ASSERT_EQ(trace.steps().size(), 5u);
  EXPECT_EQ(trace.steps()[1].op, StepOp::kReorderCache);
  EXPECT_EQ(trace.steps()[1].tensors->find("cache")->count(), 4);
  EXPECT_EQ(trace.steps()[1].tensors->find("input_ids"), nullptr);
  EXPECT_EQ(trace.steps()[2].tensors->find("input_ids")->shape, (Shape{4, 1}));
}

TEST(Record, UnwantedLogitsStillLeadToTheNextToken) {
  const TempDir dir;
  Parrot parrot;
  RecordOptions options;
  options.points = {"*norm"};
  value_or_die(record(parrot, {.prompt = inputs(1, 2), .decode_steps = 3}, dir / "t", {}, options));
  const Trace trace = value_or_die(Trace::open(dir / "t"));
  ASSERT_EQ(trace.steps().size(), 4u);
  for (std::int64_t s = 1; s < 4; ++s) {
    const SafetensorsFile& tensors = *trace.steps()[static_cast<std::size_t>(s)].tensors;
    EXPECT_EQ(tensors.find("lm_head"), nullptr);
    EXPECT_NE(tensors.find("model.norm"), nullptr);
    EXPECT_EQ(tensors.find("input_ids")->as<std::int64_t>()[0], s - 1);
  }
}

TEST(Record, AFailingEngineLeavesNoTraceThatLooksWhole) {
  const TempDir dir;
  Parrot parrot(1);
  const Result<Recorded> r =
      record(parrot, {.prompt = inputs(1, 2), .decode_steps = 3}, dir / "t", {}, {});
  ASSERT_FALSE(r.ok());
  EXPECT_EQ(r.error().kind, Error::Kind::kMachine);
  EXPECT_FALSE(std::filesystem::exists(dir / "t/trace.json"));
  EXPECT_FALSE(std::filesystem::exists(dir / "t/step-00001.rank-00000.safetensors"));
}

}  // namespace
}  // namespace ps
