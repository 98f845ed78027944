// A check of a part of the layers says what it left out, and claims no more than it looked at.
#include "diff/isolate/sample.h"

#include <gtest/gtest.h>

#include "core/json.h"
#include "tests/support/program.h"
#include "tests/support/run.h"

namespace ps {
namespace {

std::string judged(std::string_view text, std::int64_t layers) {
  const Sample sample = value_or_die(Sample::parse(text, layers, "--sample"));
  std::string out;
  for (std::int64_t i = 0; i < layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i);
    const bool yes = sample.judges(layer);
    EXPECT_EQ(sample.judges(layer + ".self_attn:scores"), yes);
    EXPECT_EQ(sample.judges(layer + ":attn_residual"), yes);
    out += yes ? 'x' : '.';
  }
  EXPECT_TRUE(sample.judges("model.norm"));
  EXPECT_TRUE(sample.judges("lm_head"));
  return out;
}

TEST(Sample, ChoosesLayers) {
  EXPECT_EQ(judged("every=1", 5), "xxxxx");
  EXPECT_EQ(judged("every=2", 5), "x.x.x");
  EXPECT_EQ(judged("every=3", 5), "x..xx");
  EXPECT_EQ(judged("every=9", 5), "x...x");
  EXPECT_EQ(judged("layers=0", 5), "x....");
  EXPECT_EQ(judged("layers=1-3", 5), ".xxx.");
  EXPECT_EQ(judged("layers=4,1-2", 5), ".xx.x");
  EXPECT_EQ(value_or_die(Sample::parse("layers=1", 5, "")).left_out(), "layers 0, 2-4");
  EXPECT_EQ(value_or_die(Sample::parse("layers=0-3", 5, "")).left_out(), "layer 4");
  EXPECT_EQ(value_or_die(Sample::parse("every=1", 5, "")).left_out(), "");
  EXPECT_TRUE(Sample().judges("model.layers.3"));
}

TEST(Sample, RefusesWhatIsNone) {
  for (const char* text : {"",
                           "every=0",
                           "every=-1",
                           "every=",
                           "every=x",
                           "layers=",
                           "layers=5",
                           "layers=2-1",
                           "layers=1,",
                           "layers=0-9",
                           "layers=-1",
                           "layers",
                           "rows=1",
                           "rows=",
                           ",rows=4",
                           "rows=4,every=2",
                           "every=2,,rows=4",
                           "every=2 rows=4",
                           "layers=1-2-3",
                           "every=99999999999999999999"}) {
    EXPECT_FALSE(Sample::parse(text, 5, "--sample").ok()) << text;
  }
  PS_NEEDS_REFERENCE();
  expect_bad_input(run_parscope({"check", bytes_model().string(), "--sample", "layers=4"}),
                   "--sample: is no sample of layers or rows: expected layers=0,4-7 (below 4), "
                   "every=8, rows=16");
}

Json check_json(const std::vector<std::string>& more, int code) {
  std::vector<std::string> words = {"check", bytes_model().string(), "--random", "2x9", "--natural",
                                    "--json"};
  words.insert(words.end(), more.begin(), more.end());
  const Ran ran = run_parscope(words);
  EXPECT_EQ(ran.code, code) << ran.err;
  return value_or_die(parse_json(ran.out, "report"));
}

std::size_t points_of_layer(const Json& list, const std::string& layer) {
  std::size_t n = 0;
  for (const Json& point : list.items) {
    n += point.find("point")->text.starts_with(layer) ? 1 : 0;
  }
  return n;
}

bool is_blind_to(const Json& report, const std::string& id, const std::string& words) {
  for (const Json& spot : report.find("blind_spots")->items) {
    if (spot.find("id")->text != id) continue;
    return spot.find("why")->text.find(words) != std::string::npos;
  }
  return false;
}

// RMSNorm's weight of layer 1 is other than the checkpoint's, in the candidate only.
TEST(Sample, AFaultInASkippedLayerIsNotSeenAndTheReportSaysSo) {
  PS_NEEDS_REFERENCE();
  const TempDir dir;
  copy_bytes_model(dir / "wrong", [](const std::string& name, Tensor& t) {
    if (name == "model.layers.1.mlp.up_proj.weight") t.bytes()[1] = std::byte{0x42};
    return true;
  });
  const std::string wrong = (dir / "wrong").string();
  const Json whole = check_json({}, 0);
  const Json part = check_json({"--candidate", wrong, "--sample", "layers=0,2-3"}, 0);
  EXPECT_EQ(part.find("verdict")->text, "equivalent");
  const double all = whole.find("power")->number, some = part.find("power")->number;
  EXPECT_LT(some, all - 0.1);
  EXPECT_GT(some, 0.3);
  EXPECT_EQ(whole.find("not_judged"), nullptr);
  const Json& left = *part.find("not_judged");
  EXPECT_EQ(left.find("sample")->text, "layers=0,2-3");
  EXPECT_EQ(left.find("layers")->text, "layer 1");
  const std::size_t skipped = left.find("points")->items.size();
  EXPECT_EQ(points_of_layer(*left.find("points"), "model.layers.1"), skipped);
  EXPECT_EQ(points_of_layer(*part.find("points"), "model.layers.1"), 0U);
  EXPECT_EQ(part.find("points")->items.size() + skipped, whole.find("points")->items.size());
  // What could sit there all the same is listed, with the share that was looked at.
  EXPECT_TRUE(is_blind_to(part, "weights-dtype-scale-dropped", "the sample judged 3 of 4"));
  EXPECT_FALSE(is_blind_to(whole, "weights-dtype-scale-dropped", ""));
  // One layer of four shows less than three of four.
  EXPECT_LT(check_json({"--sample", "layers=0"}, 0).find("power")->number, some);

  const Ran words = run_parscope({"check", bytes_model().string(), "--candidate", wrong, "--random",
                                  "2x9", "--natural", "--sample", "layers=0,2-3"});
  EXPECT_EQ(words.code, 0);
  EXPECT_NE(words.out.find("nothing wrong found in what was looked at"), std::string::npos)
      << words.out;
  EXPECT_NE(words.out.find("not judged: 19 points of layer 1"), std::string::npos) << words.out;

  // In a layer that is judged it is found, at its op.
  const Json found = check_json({"--candidate", wrong, "--sample", "layers=1"}, 1);
  EXPECT_EQ(found.find("first_divergence")->find("point")->text, "model.layers.1.mlp.up_proj");
}

TEST(Sample, SomeRowsShowAWrongWeightAndWhatIsRightStaysSo) {
  PS_NEEDS_REFERENCE();
  const TempDir dir;
  copy_bytes_model(dir / "wrong", [](const std::string& name, Tensor& t) {
    if (name == "model.layers.1.mlp.up_proj.weight") t.bytes()[1] = std::byte{0x42};
    return true;
  });
  const Json right = check_json({"--sample", "rows=3"}, 0);
  EXPECT_EQ(right.find("not_judged")->find("rows")->text,
            "all but 3 of 9 tokens of the projections");
  EXPECT_EQ(right.find("not_judged")->find("points")->items.size(), 0U);
  const Json found =
      check_json({"--candidate", (dir / "wrong").string(), "--sample", "every=1,rows=3"}, 1);
  EXPECT_EQ(found.find("first_divergence")->find("point")->text, "model.layers.1.mlp.up_proj");
  // What is wrong is looked at whole.
  for (const Json& row : found.find("points")->items) {
    const std::int64_t tokens = row.find("shape")->items[1].integer;
    const std::int64_t seen = row.find("compared")->integer + row.find("ignored")->integer;
    const std::string& point = row.find("point")->text;
    if (!point.ends_with("up_proj")) continue;
    const std::int64_t cells = 8 * 352;
    EXPECT_EQ(seen, cells * (point.find("layers.1.") != point.npos ? tokens : 3)) << point;
  }
  // Nothing to leave out.
  EXPECT_EQ(check_json({"--sample", "rows=9"}, 0).find("not_judged")->find("rows"), nullptr);
}

TEST(Sample, WorksOverStepsChunksAndBeams) {
  PS_NEEDS_REFERENCE();
  const Json report =
      check_json({"--sample", "every=2", "--steps", "2", "--chunk", "4", "--beams", "2"}, 0);
  EXPECT_EQ(report.find("verdict")->text, "equivalent");
  EXPECT_GT(report.find("not_judged")->find("points")->items.size(), 19U);
}

}  // namespace
}  // namespace ps
