// fixtures/faults: traces of a foreign implementation (tests/heldout, numpy) with one fault each.
// The fault must be found at its op and called by its name; an invented one must stay unnamed, and
// a harmless difference must be said and not failed.
#include <filesystem>

#include <gtest/gtest.h>

#include "core/file.h"
#include "core/json.h"
#include "core/trace.h"
#include "diff/isolate/examine.h"
#include "tests/support/fixtures.h"
#include "tests/support/run.h"

namespace ps {
namespace {

namespace fs = std::filesystem;

std::string text_of(const Json& json, std::string_view name) {
  const Json* found = json.find(name);
  return found == nullptr ? std::string() : found->text;
}

Report examined(const fs::path& dir, const Json& wanted) {
  const Trace trace = value_or_die(Trace::open(dir / "trace"));
  const Model model =
      value_or_die(open_model(fixtures_dir() / "faults" / "models" / text_of(wanted, "model")));
  ReferenceOptions options;
  options.dtype = DType::kF64;
  options.weights_through = trace.run_dtype();
  options.threads = 1;
  const auto reference = value_or_die(open_reference(model, options));
  return value_or_die(examine(trace, model, *reference, {}));
}

class FaultCase : public testing::TestWithParam<std::string> {};

TEST_P(FaultCase, IsFoundAndNamed) {
  const fs::path dir = fixtures_dir() / "faults" / GetParam();
  const Json wanted =
      value_or_die(parse_json(value_or_die(read_text(dir / "case.json")), "case.json"));
  const Report report = examined(dir, wanted);
  if (text_of(wanted, "kind") == "benign") {
    EXPECT_EQ(report.verdict, Verdict::kEquivalent);
    EXPECT_FALSE(report.findings.empty());
    for (const Finding& f : report.findings) EXPECT_EQ(f.severity, Severity::kInfo) << f.message;
    return;
  }
  ASSERT_TRUE(report.first_divergence.has_value());
  EXPECT_EQ(report.first_divergence->step, wanted.find("step")->integer);
  EXPECT_EQ(report.first_divergence->point, text_of(wanted, "point"));
  ASSERT_FALSE(report.findings.empty());
  const Finding& cause = report.findings[0];
  EXPECT_EQ(cause.id, text_of(wanted, "id")) << cause.message;
  const bool named = cause.confidence != Confidence::kUnnamed;
  EXPECT_EQ(named, text_of(wanted, "kind") == "listed");
  EXPECT_FALSE(cause.message.empty());
  EXPECT_EQ(named, !cause.fix.empty());
}

std::vector<std::string> cases() {
  std::vector<std::string> out;
  for (const auto& entry : fs::directory_iterator(fixtures_dir() / "faults")) {
    if (fs::exists(entry.path() / "case.json")) out.push_back(entry.path().filename().string());
  }
  std::sort(out.begin(), out.end());
  return out;
}

INSTANTIATE_TEST_SUITE_P(Heldout, FaultCase, testing::ValuesIn(cases()), [](const auto& param) {
  std::string name = param.param;
  for (char& c : name) c = c == '-' ? '_' : c;
  return name;
});

// What a run cannot show is said: without padding nobody sees that padding is ignored.
TEST(Power, ARightTraceSaysWhatItCannotShow) {
  const fs::path dir = fixtures_dir() / "golden" / "parscale" / "ps_n2_t3_eager";
  const Trace trace = value_or_die(Trace::open(dir / "expected"));
  const Model model = value_or_die(open_model(dir));
  ReferenceOptions options;
  options.dtype = DType::kF64;
  options.weights_through = trace.run_dtype();
  options.threads = 1;
  const auto reference = value_or_die(open_reference(model, options));
  const Report report = value_or_die(examine(trace, model, *reference, {}));
  ASSERT_TRUE(report.power.has_value());
  EXPECT_GT(*report.power, 0.5);
  EXPECT_LT(*report.power, 1.0);
  const auto blind = [&](std::string_view id) {
    return std::any_of(report.blind_spots.begin(), report.blind_spots.end(),
                       [&](const BlindSpot& spot) { return spot.id == id; });
  };
  EXPECT_TRUE(blind("cache-beam-reorder-skipped"));
  EXPECT_FALSE(blind("rope-interleaved-vs-half"));
  EXPECT_FALSE(blind("mask-causal-skipped-with-cache"));
  for (const BlindSpot& spot : report.blind_spots) EXPECT_FALSE(spot.why.empty()) << spot.id;
}

}  // namespace
}  // namespace ps
