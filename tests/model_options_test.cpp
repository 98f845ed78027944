// Single features and edges of the engine: windows, smoothing, long prompts, rows without a key,
// and what it says to inputs that do not fit.
#include <cmath>
#include <map>

#include <gtest/gtest.h>

#include "tests/support/engine_subject.h"

namespace ps {
namespace {

// One layer, a window of three: token t feels tokens t-2, t-1, t and no other, prefilled or
// decoded.
TEST(SlidingWindow, ReachesExactlyItsWidth) {
  const Subject subject("qwen2", {{"use_sliding_window", "true"},
                                  {"sliding_window", "3"},
                                  {"max_window_layers", "0"},
                                  {"num_hidden_layers", "1"}});
  ASSERT_EQ(subject.model.config.sliding_window, 3);
  const StepInputs inputs = tokens(1, 8);
  const auto before = logits(*subject.open(), inputs);
  for (std::int64_t changed = 0; changed < 8; ++changed) {
    StepInputs other = inputs;
    other.input_ids[static_cast<std::size_t>(changed)] =
        (other.input_ids[static_cast<std::size_t>(changed)] + 1) % 97;
    const auto after = logits(*subject.open(), other);
    for (std::int64_t t = 0; t < 8; ++t) {
      const bool felt = t >= changed && t - changed < 3;
      EXPECT_EQ(apart(span_of(before, 1, 8, t, t + 1), span_of(after, 1, 8, t, t + 1)) > 0, felt)
          << changed << " at " << t;
    }
  }
}

// The mask that is tapped is the causal one, as long as a layer uses it; else the layers' own.
TEST(SlidingWindow, TappedMaskIsOneThatALayerUses) {
  for (const bool all : {false, true}) {
    const Subject subject("qwen2", {{"use_sliding_window", "true"},
                                    {"sliding_window", "3"},
                                    {"max_window_layers", all ? "0" : "1"}});
    Keep tap;
    ASSERT_TRUE(subject.open()->forward(tokens(1, 6), tap).ok());
    const auto mask = tap.values("model:mask");
    EXPECT_EQ(mask[5 * 6 + 0], all ? 0 : 1);
    EXPECT_EQ(mask[5 * 6 + 5], 1);
    EXPECT_EQ(tap.points.contains("model:mask_sliding"), !all);
  }
}

TEST(ParScale, WithOneReplicaIsQwen2ToTheBit) {
  const Subject qwen("qwen2"),
      parscale("qwen2_parscale", {{"parscale_n", "1"}, {"parscale_n_tokens", "0"}});
  EXPECT_EQ(logits(*qwen.open(), tokens(2, 7)), logits(*parscale.open(), tokens(2, 7)));
}

TEST(ParScale, WithoutAPrefixKeepsItsReplicasEqualAndWeighsThemByTheAggregatorAlone) {
  const Subject subject("qwen2_parscale", {{"parscale_n", "3"}, {"parscale_n_tokens", "0"}});
  Keep tap;
  ASSERT_TRUE(subject.open()->forward(tokens(2, 5), tap).ok());
  const auto norm = tap.values("model.norm");
  const std::size_t replica = norm.size() / 3;
  for (std::size_t i = 0; i < norm.size(); ++i) ASSERT_NEAR(norm[i], norm[i % replica], 1e-5);
  const auto weights = tap.values("model:aggregate_weights");
  for (std::size_t row = 0; row < weights.size() / 3; ++row) {
    EXPECT_NEAR(weights[3 * row] + weights[3 * row + 1] + weights[3 * row + 2], 1, 1e-6);
    for (std::size_t p = 0; p < 3; ++p) EXPECT_GE(weights[3 * row + p], 0.01 / 3 - 1e-9);
  }
}

TEST(ParScale, SmoothingByOneIsTheMean) {
  const Subject subject("qwen2_parscale", {{"parscale_n", "4"}, {"parscale_attn_smooth", "1.0"}});
  Keep tap;
  ASSERT_TRUE(subject.open()->forward(tokens(1, 5), tap).ok());
  for (const double weight : tap.values("model:aggregate_weights")) EXPECT_EQ(weight, 0.25);
  EXPECT_EQ(tap.points.at("model.layers.2.self_attn:k_cache").shape(), (Shape{4, 2, 7 + 5, 8}));
}

TEST(LongPrompts, AreCutIntoBlocksOfQueriesWithTheSameResult) {
  // 6 heads of 1100 queries and keys pass the block limit; the first tokens must not notice.
  const Subject subject("qwen2", {{"num_hidden_layers", "1"}, {"max_position_embeddings", "4096"}});
  const StepInputs inputs = tokens(1, 1100);
  const auto all = logits(*subject.open(), inputs);
  StepInputs start = inputs;
  start.length = 40;
  start.input_ids.resize(40);
  EXPECT_LT(apart(logits(*subject.open(), start), span_of(all, 1, 1100, 0, 40)), 2e-5);
  const auto engine = subject.open();  // and the last ones agree with a run in chunks
  std::vector<double> last;
  for (std::int64_t begin = 0; begin < 1100; begin += 275) {
    StepInputs part{
        .batch = 1,
        .length = 275,
        .input_ids = {inputs.input_ids.begin() + begin, inputs.input_ids.begin() + begin + 275},
        .attention_mask = {},
        .position_ids = {}};
    last = logits(*engine, part);
  }
  EXPECT_LT(apart(last, span_of(all, 1, 1100, 825, 1100)), 5e-5);
  Keep inner;  // scores are put together from the blocks
  inner.only = "model.layers.0.self_attn:probs";
  ASSERT_TRUE(subject.open()->forward(inputs, inner).ok());
  const auto probs = inner.values(inner.only);
  for (std::size_t row = 0; row < 6 * 1100; row += 97) {
    double sum = 0;
    for (std::size_t c = 0; c < 1100; ++c) sum += probs[row * 1100 + c];
    EXPECT_NEAR(sum, 1, 1e-5);
    EXPECT_EQ(row % 1100 == 1099 || probs[row * 1100 + row % 1100 + 1] == 0, true);
  }
}

TEST(EmptyRows, AreCountedAndFollowTheOption) {
  const Subject subject("qwen2");
  StepInputs inputs = tokens(2, 4);
  inputs.attention_mask = std::vector<std::int64_t>{0, 0, 1, 1, 1, 1, 1, 1};
  const std::map<EmptyRows, double> first_probs{{EmptyRows::kZeros, 0.0},
                                                {EmptyRows::kUniform, 0.25},
                                                {EmptyRows::kOpened, -1},
                                                {EmptyRows::kNan, NAN}};
  for (const auto& [rows, want] : first_probs) {
    CandidateOptions options;
    options.device = Device::kHost;
    options.empty_rows = rows;
    const auto engine = std::move(open_candidate(subject.model, options)).value();
    Keep tap;
    ASSERT_TRUE(engine->forward(inputs, tap).ok());
    const auto probs = tap.values("model.layers.0.self_attn:probs");
    for (std::size_t c = 0; c < 4; ++c) {
      if (std::isnan(want))
        EXPECT_TRUE(std::isnan(probs[c]));
      else if (want >= 0)
        EXPECT_EQ(probs[c], want);
      else
        EXPECT_GT(probs[c], 0);
    }
    const auto stats = candidate_stats(*engine);
    ASSERT_TRUE(stats.has_value());
    EXPECT_EQ(stats->empty_rows, 2);
    EXPECT_GT(stats->activation_bytes, 0);
    EXPECT_NE(stats->device.find("host"), std::string::npos);
  }
}

TEST(Inputs, ThatDoNotFitAreErrorsWithWhereAndWhat) {
  const Subject subject("qwen2_parscale");
  const auto engine = subject.open();
  NoTap tap;
  const auto line = [&](const StepInputs& inputs) {
    const auto ran = engine->forward(inputs, tap);
    EXPECT_FALSE(ran.ok());
    return ran.ok() ? std::string() : ran.error().line();
  };
  StepInputs inputs = tokens(2, 3);
  inputs.input_ids[4] = 97;
  EXPECT_NE(line(inputs).find("input_ids"), std::string::npos);
  inputs = tokens(2, 3);
  inputs.input_ids.pop_back();
  EXPECT_NE(line(inputs).find("[2,3]"), std::string::npos);
  inputs = tokens(2, 3);
  inputs.attention_mask = std::vector<std::int64_t>(5, 1);
  EXPECT_NE(line(inputs).find("attention_mask"), std::string::npos);
  inputs = tokens(2, 3);
  inputs.position_ids = std::vector<std::int64_t>{0, 1, 2, 0, -1, 2};
  EXPECT_NE(line(inputs).find("position_ids"), std::string::npos);
  EXPECT_NE(line(StepInputs{}).find("input_ids"), std::string::npos);
  EXPECT_EQ(engine->past(), 0);
  EXPECT_FALSE(engine->reorder_cache({0, 1}, tap).ok());
  ASSERT_TRUE(engine->forward(tokens(2, 3), tap).ok());
  EXPECT_NE(line(tokens(3, 1)).find("batch"), std::string::npos);
  EXPECT_FALSE(engine->reorder_cache({0}, tap).ok());
  EXPECT_FALSE(engine->reorder_cache({0, 2}, tap).ok());
  EXPECT_FALSE(engine->generate(tokens(1, 2), 0, 3).ok());
  EXPECT_FALSE(engine->generate(tokens(1, 2), 2, 0).ok());
  EXPECT_EQ(engine->past(), 3);
  engine->reset();
  EXPECT_EQ(engine->past(), 0);
  EXPECT_TRUE(engine->forward(tokens(3, 1), tap).ok());
}

TEST(Candidate, RefusesDtypesAndDevicesThatItDoesNotHave) {
  const Subject subject("qwen2");
  CandidateOptions options;
  options.device = Device::kHost;
  options.dtype = DType::kF64;
  const auto wide = open_candidate(subject.model, options);
  ASSERT_FALSE(wide.ok());
  EXPECT_EQ(wide.error().kind, Error::Kind::kInput);
  EXPECT_NE(wide.error().line().find("float64"), std::string::npos);
}

}  // namespace
}  // namespace ps
