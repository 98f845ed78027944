// What must hold of a run without any reference (parscale.md 7), on random models of every family.
#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "tests/support/engine_subject.h"

namespace ps {
namespace {

struct Family {
  const char* name;
  const char* type;
  std::vector<ConfigChange> changes;
};
const std::vector<Family>& families() {
  static const std::vector<Family> all = {
      {"qwen2", "qwen2", {}},
      {"llama", "llama", {}},
      {"llama3",
       "llama",
       {{"rope_theta", "500000"},
        {"rope_scaling",
         R"({"rope_type":"llama3","factor":8,"low_freq_factor":1,"high_freq_factor":4,"original_max_position_embeddings":16})"}}},
      {"qwen3", "qwen3", {}},
      {"qwen2_sliding",
       "qwen2",
       {{"use_sliding_window", "true"}, {"sliding_window", "4"}, {"max_window_layers", "1"}}},
      {"parscale", "qwen2_parscale", {}},
      {"parscale_tied", "qwen2_parscale", {{"tie_word_embeddings", "true"}, {"parscale_n", "2"}}},
      {"xattn_base_n1", "parscale_base", {{"parscale_n", "1"}}},
      {"cross",
       "parscale_cross_attn",
       {{"head_dim", ""},
        {"enable_cross_attn", "true"},
        {"parscale_cross_attn_layers", "[0,2]"},
        {"enable_replica_rope", "true"}}},
      {"cross_kv",
       "parscale_cross_attn",
       {{"architectures", "[\"ParScaleCrossKVForCausalLM\"]"},
        {"parscale_cross_attn_layers", "[1]"},
        {"xkv_causal", "true"},
        {"enable_cross_attn", "true"},
        {"head_dim", ""}}}};
  return all;
}

class Engines : public testing::TestWithParam<std::size_t> {
 protected:
  Engines() : subject(families()[GetParam()].type, families()[GetParam()].changes) {}
  Subject subject;
};

TEST_P(Engines, AnySplitIntoCallsGivesTheSameLogits) {
  const StepInputs whole = tokens(2, 11);
  const auto once = logits(*subject.open(), whole);
  for (const std::vector<std::int64_t>& split :
       {std::vector<std::int64_t>{10, 1}, {4, 3, 4}, {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}}) {
    const auto engine = subject.open();
    std::int64_t begin = 0;
    for (const std::int64_t count : split) {
      StepInputs part{
          .batch = 2, .length = count, .input_ids = {}, .attention_mask = {}, .position_ids = {}};
      for (std::int64_t i = 0; i < 2; ++i)
        part.input_ids.insert(part.input_ids.end(), whole.input_ids.begin() + i * 11 + begin,
                              whole.input_ids.begin() + i * 11 + begin + count);
      EXPECT_LT(apart(logits(*engine, part), span_of(once, 2, 11, begin, begin + count)), 2e-5)
          << begin;
      begin += count;
      EXPECT_EQ(engine->past(), begin);
    }
  }
}

TEST_P(Engines, ATokenReachesNoLogitBeforeIt) {
  StepInputs inputs = tokens(1, 9);
  const auto before = logits(*subject.open(), inputs);
  inputs.input_ids[5] = (inputs.input_ids[5] + 1) % 97;
  const auto after = logits(*subject.open(), inputs);
  EXPECT_EQ(span_of(before, 1, 9, 0, 5), span_of(after, 1, 9, 0, 5));
  EXPECT_GT(apart(span_of(before, 1, 9, 5, 6), span_of(after, 1, 9, 5, 6)), 1e-4);
}

TEST_P(Engines, SamplesDoNotTouchOneAnother) {
  const StepInputs both = tokens(2, 7);
  StepInputs second = both;
  second.batch = 1;
  second.input_ids.erase(second.input_ids.begin(), second.input_ids.begin() + 7);
  const auto together = logits(*subject.open(), both), alone = logits(*subject.open(), second);
  EXPECT_LT(apart(std::vector<double>(together.begin() + 7 * 97, together.end()), alone), 2e-5);
}

TEST_P(Engines, LeftPaddingWithPositionsChangesNoRealToken) {
  const StepInputs real = tokens(1, 6);
  StepInputs padded = real;
  padded.length = 9;
  padded.input_ids.insert(padded.input_ids.begin(), {5, 6, 7});
  padded.attention_mask = std::vector<std::int64_t>{0, 0, 0, 1, 1, 1, 1, 1, 1};
  padded.position_ids = std::vector<std::int64_t>{1, 1, 1, 0, 1, 2, 3, 4, 5};
  EXPECT_LT(
      apart(logits(*subject.open(), real), span_of(logits(*subject.open(), padded), 1, 9, 3, 9)),
      2e-5);
}

TEST_P(Engines, ReorderTakesWholeSamplesAndIdentityIsNothing) {
  const StepInputs prompt = tokens(3, 5);
  StepInputs next = tokens(3, 1, 11);
  const auto swap = [](const StepInputs& in, const std::vector<std::int64_t>& order) {
    StepInputs out = in;
    for (std::size_t i = 0; i < order.size(); ++i)
      out.input_ids[i] = in.input_ids[static_cast<std::size_t>(order[i])];
    return out;
  };
  NoTap quiet;
  const auto straight = subject.open(), same = subject.open(), moved = subject.open();
  logits(*straight, prompt);
  logits(*same, prompt);
  logits(*moved, prompt);
  const auto want = logits(*straight, next);
  ASSERT_TRUE(same->reorder_cache({0, 1, 2}, quiet).ok());
  EXPECT_EQ(logits(*same, next), want);
  const std::vector<std::int64_t> order = {2, 0, 0};
  ASSERT_TRUE(moved->reorder_cache(order, quiet).ok());
  const auto got = logits(*moved, swap(next, order));
  for (std::size_t i = 0; i < 3; ++i) {
    const auto from = want.begin() + order[i] * 97;
    EXPECT_LT(apart(std::vector<double>(got.begin() + static_cast<std::ptrdiff_t>(i) * 97,
                                        got.begin() + static_cast<std::ptrdiff_t>(i + 1) * 97),
                    std::vector<double>(from, from + 97)),
              2e-5)
        << i;
  }
}

TEST_P(Engines, GreedyIsTheArgmaxOfEachStepAndLeavesTheCacheAlone) {
  const StepInputs prompt = tokens(2, 4);
  const auto engine = subject.open();
  logits(*engine, prompt);
  const auto generated = engine->generate(prompt, 1, 5);
  ASSERT_TRUE(generated.ok()) << generated.error().line();
  EXPECT_EQ(engine->past(), 4);
  EXPECT_TRUE(generated->scores.empty());
  StepInputs grown = prompt;
  for (std::int64_t step = 0; step < 5; ++step) {
    const auto all = logits(*subject.open(), grown);
    std::vector<std::int64_t> ids;
    for (std::int64_t i = 0; i < 2; ++i) {
      const auto last = all.begin() + ((i + 1) * grown.length - 1) * 97;
      const std::int64_t best = std::max_element(last, last + 97) - last;
      EXPECT_EQ(best, generated->sequences[static_cast<std::size_t>(i * 9 + 4 + step)]);
      ids.insert(ids.end(), grown.input_ids.begin() + i * grown.length,
                 grown.input_ids.begin() + (i + 1) * grown.length);
      ids.push_back(best);
    }
    grown.input_ids = ids;
    ++grown.length;
  }
}

// As many beams as tokens and two steps: the search is exhaustive, and a brute one can be held to
// it.
TEST_P(Engines, BeamsFindTheBestOfAllContinuations) {
  const StepInputs prompt = tokens(1, 3);
  const auto found = subject.open()->generate(prompt, 97, 2);
  ASSERT_TRUE(found.ok()) << found.error().line();
  const auto log_p = [](const std::vector<double>& row) {
    double sum = 0;
    for (const double x : row) sum += std::exp(x);
    std::vector<double> out;
    for (const double x : row) out.push_back(x - std::log(sum));
    return out;
  };
  const auto first = log_p(span_of(logits(*subject.open(), prompt), 1, 3, 2, 3));
  StepInputs every{
      .batch = 97, .length = 4, .input_ids = {}, .attention_mask = {}, .position_ids = {}};
  for (std::int64_t token = 0; token < 97; ++token) {
    every.input_ids.insert(every.input_ids.end(), prompt.input_ids.begin(), prompt.input_ids.end());
    every.input_ids.push_back(token);
  }
  const auto second = logits(*subject.open(), every);
  double best = -1e300;
  std::vector<std::int64_t> sequence = prompt.input_ids;
  for (std::int64_t a = 0; a < 97; ++a) {
    const auto row = log_p({second.begin() + (a * 4 + 3) * 97, second.begin() + (a * 4 + 4) * 97});
    for (std::int64_t b = 0; b < 97; ++b) {
      const double score = first[static_cast<std::size_t>(a)] + row[static_cast<std::size_t>(b)];
      if (score <= best) continue;
      best = score;
      sequence.resize(3);
      sequence.insert(sequence.end(), {a, b});
    }
  }
  EXPECT_EQ(found->sequences, sequence);
  EXPECT_NEAR(found->scores[0], best / 2, 1e-5);
}

TEST_P(Engines, RunsInHalfPrecisionNearTheFloatRun) {
  const StepInputs inputs = tokens(2, 6);
  const auto exact = logits(*subject.open(), inputs);
  double scale = 0;
  for (const double x : exact) scale = std::max(scale, std::fabs(x));
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    const double off = apart(exact, logits(*subject.open(dtype), inputs));
    EXPECT_LT(off, 40 * unit_roundoff(dtype) * scale) << short_name(dtype);
    EXPECT_GT(off, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Families, Engines, testing::Range<std::size_t>(0, families().size()),
                         [](const auto& family) {
                           return std::string(families()[family.param].name);
                         });

}  // namespace
}  // namespace ps
