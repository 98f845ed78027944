// Masks by name, the algebra line over them, and what a cell's tooltip says.
#include <gtest/gtest.h>

#include "core/safetensors.h"
#include "diff/mask/mask.h"
#include "diff/mask/text.h"
#include "diff/view/mask_planes.h"
#include "tests/support/fixtures.h"
#include "tests/support/run.h"

namespace ps::view {
namespace {

using mask::Mask;
using mask::SetOp;

mask::Program program_of(const std::string& text) {
  return value_or_die(mask::parse_text(text, "test"));
}
Mask mask_of(const std::string& text) { return value_or_die(mask::evaluate(program_of(text))); }

const std::string kSize = "Q=23 KV=29 q_offset=6; ";

MaskSet sample() {
  return value_or_die(MaskSet::of_program(program_of(kSize + "causal #future & window(7) #window"),
                                          mask_of(kSize + "causal(1) & window(7)")));
}

TEST(MaskAlgebra, NamesTagsAndTextMeanTheirCells) {
  MaskSet set = sample();
  const auto same = [&](const std::string& line, const std::string& text) {
    EXPECT_TRUE(mask::equal(value_or_die(set.evaluate(line)), mask_of(kSize + text))) << line;
  };
  same("expected", "causal & window(7)");
  same("~expected", "!(causal & window(7))");
  same("actual & ~expected", "causal(1) & window(7) & !causal");
  same("future & ~window", "causal & !window(7)");
  same("causal & !window(3, 0)", "causal & !window(3, 0)");
  same("expected ^ actual | kv_range(0,2)",
       "((causal & window(7)) ^ (causal(1) & window(7))) | kv_range(0,2)");
  same("(expected | actual) & ~(expected & actual)",
       "(causal & window(7)) ^ (causal(1) & window(7))");
}

TEST(MaskAlgebra, WrongLinesSayWhere) {
  MaskSet set = sample();
  const auto error = [&](const std::string& line) {
    const auto result = set.evaluate(line);
    EXPECT_FALSE(result.ok()) << line;
    return result.ok() ? std::string() : result.error().line();
  };
  EXPECT_NE(error("expected &").find("column 11"), std::string::npos) << error("expected &");
  EXPECT_NE(error("(expected").find("parenthesis"), std::string::npos);
  EXPECT_NE(error("expected actual").find("something follows"), std::string::npos);
  EXPECT_NE(error("layer7").find("layer7"), std::string::npos) << error("layer7");
  EXPECT_FALSE(error("").empty());
  std::string deep(300, '(');
  deep += "expected";
  EXPECT_FALSE(error(deep).empty());
  EXPECT_FALSE(error("window(").empty());
}

TEST(MaskPlanes, PairsTellLeaksFromHiddenPairs) {
  const Mask expected = mask_of(kSize + "causal");
  const Mask actual = mask_of(kSize + "causal(1) & !kv_range(3,4)");
  const PlanePair pair = pair_of(&expected, &actual, 0, 0);
  for (std::int64_t q = 0; q < 23; ++q) {
    for (std::int64_t k = 0; k < 29; ++k) {
      const bool e = expected.at(0, 0, q, k), a = actual.at(0, 0, q, k);
      EXPECT_EQ(pair.leak.at(q, k), a && !e);
      EXPECT_EQ(pair.hidden.at(q, k), e && !a);
      EXPECT_EQ(pair.errors.at(q, k), a != e);
    }
  }
  EXPECT_EQ(pair.leaks + pair.hides, pair.errors.count());
  EXPECT_EQ(pair_of(&expected, nullptr, 0, 0).leaks, 0);
}

TEST(MaskPlanes, TheTooltipNamesTheClauseAndTheSmallestChange) {
  MaskSet set = sample();
  const auto expected = value_or_die(set.get("expected")), actual = value_or_die(set.get("actual"));
  const PlanePair pair = pair_of(expected.get(), actual.get(), 0, 0);
  const std::string text = cell_text(pair, set.program(), {0, 0, 4, 11});
  EXPECT_NE(text.find("expected masked, actual allowed: a leak"), std::string::npos) << text;
  EXPECT_NE(text.find("future"), std::string::npos) << text;
  EXPECT_NE(text.find("= 1 instead of 0"), std::string::npos) << text;
}

TEST(MaskPlanes, ATracesMasksAreThoseOfItsConfigAndProbs) {
  const Trace trace = value_or_die(
      Trace::open(fixtures_dir() / "golden" / "parscale" / "ps_n4_t2_decode_leftpad" / "expected"));
  const ModelConfig config =
      value_or_die(load_config(fixtures_dir() / "golden" / "parscale" / "ps_n4_t2_decode_leftpad"));
  std::int64_t past = 0, looked = 0;
  for (const TraceStep& step : trace.steps()) {
    if (step.op != StepOp::kForward) continue;
    MaskSet set = MaskSet::of_step(step, &config, past, 0);
    const StepInputs inputs = value_or_die(step_inputs(step, past));
    const auto expected = value_or_die(set.get("expected"));
    for (const std::string& name : set.names()) {
      if (name == "expected") continue;
      const auto actual = value_or_die(set.get(name));
      for (std::int64_t b = 0; b < actual->dims().B; ++b) {
        for (std::int64_t i = 0; i < inputs.length; ++i) {
          const std::int64_t sample_of = b % inputs.batch;
          const auto keys = past + inputs.length;
          if (inputs.attention_mask &&
              (*inputs.attention_mask)[static_cast<std::size_t>(sample_of * keys + past + i)] ==
                  0) {
            continue;  // rows of padding may hold anything
          }
          EXPECT_EQ(expected->plane(b, 0).row(i), actual->plane(b, 0).row(i))
              << name << " row " << b << " query " << i;
          ++looked;
        }
      }
    }
    const auto keys = key_bands(inputs, config.prefix_tokens, past, 0);
    EXPECT_EQ(keys.front().begin, 0);
    EXPECT_EQ(keys.back().end, config.prefix_tokens + past + inputs.length);
    for (std::size_t i = 1; i < keys.size(); ++i) EXPECT_EQ(keys[i - 1].end, keys[i].begin);
    past += inputs.length;
  }
  EXPECT_GT(looked, 50);
}

TEST(MaskPlanes, SegmentsAndTilesLieWhereTheProgramHasThem) {
  const mask::Program p = program_of("Q=20 KV=24 q_offset=4; causal & segments(0-9,9-24)");
  const auto keys = segment_bands(p, 0, 24);
  ASSERT_EQ(keys.size(), 2U);
  EXPECT_EQ(keys[1].begin, 9);
  EXPECT_EQ(keys[1].label, "9-23");
  EXPECT_EQ(segment_bands(p, 4, 20)[0].end, 5);
  const Mask mask = value_or_die(mask::evaluate(p));
  const BlockLayer layer = block_layer(mask::summarize(mask, 7, 5), 0, 0);
  const mask::Bands& plane = mask.plane(0, 0);
  for (std::int64_t q = 0; q < 20; ++q) {
    for (std::int64_t k = 0; k < 24; ++k) {
      std::int64_t allowed = 0, cells = 0;
      for (std::int64_t a = q / 7 * 7; a < std::min<std::int64_t>(q / 7 * 7 + 7, 20); ++a) {
        for (std::int64_t b = k / 5 * 5; b < std::min<std::int64_t>(k / 5 * 5 + 5, 24); ++b) {
          allowed += plane.at(a, b) ? 1 : 0;
          ++cells;
        }
      }
      EXPECT_EQ(layer.full.at(q, k), allowed == cells);
      EXPECT_EQ(layer.partial.at(q, k), allowed > 0 && allowed < cells);
    }
  }
}

}  // namespace
}  // namespace ps::view
