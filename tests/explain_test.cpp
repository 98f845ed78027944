// --explain: the chain of evidence of one finding, from a run and from a stored report. Planted and
// seen red: an evidence name that nothing writes, a confusable left out, number 0 taken as the
// last.
#include "diff/diagnose/explain.h"

#include <string>

#include <gtest/gtest.h>

#include "diff/report/stored.h"
#include "tests/support/program.h"

namespace ps {
namespace {

Report two_findings() {
  Report report;
  report.verdict = Verdict::kDiverged;
  Finding named;
  named.id = "mask-window-off-by-one";
  named.fault_class = "mask";
  named.step = 1;
  named.point = "model.layers.2.self_attn:probs";
  named.message = "one key too wide";
  named.fix = "j > i - window";
  named.evidence = {{"variant", "\"one too wide\""},
                    {"ratio", "4100"},
                    {"error_before", "0.25"},
                    {"ratio_of_replay", "0.5"},
                    {"error_of_replay", "3e-08"},
                    {"replayed_from", "[\"model.layers.2.self_attn:scores\"]"},
                    {"confusable", "[\"mask-window-missing\"]"},
                    {"also_at", "[\"model.layers.3.self_attn:probs\"]"},
                    {"points", "2"}};
  Finding unnamed;
  unnamed.id = "unnamed";
  unnamed.fault_class = "norm";
  unnamed.severity = Severity::kWarning;
  unnamed.point = "model.norm";
  unnamed.confidence = Confidence::kUnnamed;
  unnamed.evidence = {
      {"nearest", R"([{"id":"norm-eps-wrong","how":"eps = 1e-05","error_of_replay":0.125}])"},
      {"pattern", "\"rows\""}};
  report.findings = {named, unnamed};
  return report;
}

std::string explained(const Report& report, const std::string& which) {
  const Result<std::string> text = explain_finding(report, which);
  EXPECT_TRUE(text.ok()) << (text.ok() ? "" : text.error().line());
  return text.ok() ? text.value() : "";
}
void expect_holds(const std::string& text, std::initializer_list<std::string_view> words) {
  std::string flat;  // as one line: where it wraps does not matter
  for (const char c : text) {
    const char one = c == '\n' ? ' ' : c;
    if (one != ' ' || !flat.ends_with(' ')) flat += one;
  }
  for (const std::string_view w : words)
    EXPECT_NE(flat.find(w), std::string::npos) << w << "\n" << text;
}

TEST(Explain, NamedFindingTellsItsWholeChain) {
  const std::string text = explained(two_findings(), "1");
  expect_holds(text, {"finding 1 of 2: mask-window-off-by-one [mask, error]",
                      "model.layers.2.self_attn:probs", "one key too wide",
                      "the candidate's own model.layers.2.self_attn:scores",
                      "rel L2 0.25, 4.1e+03 times what rounding explains", "(one too wide)",
                      "leaves rel L2 3e-08, 0.5 of what rounding explains",
                      "mask-window-missing explains this run just as well",
                      "also at model.layers.3.self_attn:probs", "fix j > i - window",
                      "parscope faults mask-window-off-by-one"});
  EXPECT_EQ(text.find("points ="), std::string::npos) << text;
  EXPECT_EQ(explained(two_findings(), "mask-window-off-by-one"), text);
}

TEST(Explain, UnnamedFindingTellsHowNearOthersCame) {
  const std::string text = explained(two_findings(), "2");
  expect_holds(
      text, {"no known fault explains it", "norm-eps-wrong (eps = 1e-05) would leave rel L2 0.125",
             "pattern = \"rows\""});
  EXPECT_EQ(text.find("parscope faults"), std::string::npos) << text;
  EXPECT_EQ(text.find("nearest ="), std::string::npos) << text;
}

TEST(Explain, UnknownFindingsAreNamedWithWhatThereIs) {
  for (const char* which : {"0", "3", "99999999999999999999", "", "norm"}) {
    const Result<std::string> text = explain_finding(two_findings(), which);
    ASSERT_FALSE(text.ok()) << which << text.value();
    EXPECT_EQ(text.error().line(),
              "--explain: this report has no such finding: expected a number from 1 to 2, "
              "mask-window-off-by-one, unnamed, found '" +
                  std::string(which) + "'");
  }
  expect_holds(explained(Report{}, "1"), {"nothing to explain"});
}

TEST(Explain, StoredReportSaysTheSame) {
  const TempDir dir;
  const Report report = two_findings();
  put_file(dir / "report.json", report_json(report));
  const Result<Report> stored = read_stored_findings(dir / "report.json");
  ASSERT_TRUE(stored.ok()) << stored.error().line();
  for (const char* which : {"1", "2"}) {
    EXPECT_EQ(explained(*stored, which), explained(report, which));
  }
  const Ran ran = run_parscope({"diagnose", "--from", dir / "report.json", "--explain", "1"});
  EXPECT_EQ(ran.code, 1);
  EXPECT_EQ(ran.out, explained(report, "1"));
}

TEST(Explain, BadStoredReportsAreOneLine) {
  const TempDir dir;
  const auto says = [&](const std::string& text, std::string_view words) {
    put_file(dir / "report.json", text);
    expect_bad_input(run_parscope({"diagnose", "--from", dir / "report.json", "--explain", "1"}),
                     words, text);
  };
  const std::string head = R"({"format":"parscope-report/1","verdict":"diverged")";
  says("{", "report.json");
  says("[]", "is no report");
  says(R"({"format":"parscope-report/1","verdict":"good"})", "/verdict");
  says(head + "}", "/findings");
  says(head + R"(,"findings":[{"id":3}]})", "/findings/0/id");
  says(head + R"(,"findings":[{"id":"a","severity":"bad"}]})", "/findings/0/severity");
  expect_bad_input(run_parscope({"diagnose", "--from", "/nowhere", "--explain", "1"}), "/nowhere");
  expect_bad_input(run_parscope({"diagnose", "--from", "x"}), "--explain");
}

TEST(Explain, OfARun) {
  PS_NEEDS_REFERENCE();
  const TempDir dir;
  copy_bytes_model(dir / "m", [](const std::string&, Tensor&) { return true; });
  std::string config = get_file(dir / "m" / "config.json");
  const std::size_t at = config.find("\"rms_norm_eps\":");
  ASSERT_NE(at, std::string::npos);
  config.replace(at, config.find(',', at) - at, "\"rms_norm_eps\": 0.003");
  put_file(dir / "m" / "config.json", config);
  const Ran ran = run_parscope({"check", bytes_model(), "--candidate", dir / "m", "--random", "2x5",
                                "--seed", "3", "--explain", "norm-eps-wrong"});
  EXPECT_EQ(ran.code, 1) << ran.err;
  expect_holds(ran.out, {"finding 1 of", "norm-eps-wrong [norm, error]", "input_layernorm",
                         "the candidate's own model:replicated", "nothing but rounding is left"});
  const Ran clean = run_parscope({"check", bytes_model(), "--random", "2x5", "--explain", "1"});
  EXPECT_EQ(clean.code, 0) << clean.err;
  expect_holds(clean.out, {"nothing to explain"});
  expect_bad_input(run_parscope({"check", bytes_model(), "--explain", "1", "--json"}),
                   "one of them");
}

}  // namespace
}  // namespace ps
