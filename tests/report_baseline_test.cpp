#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "diff/report/baseline.h"
#include "diff/report/forms.h"
#include "tests/support/sample_report.h"
#include "tests/support/temp_dir.h"

namespace ps {
namespace {

Report applied(Report report, const std::string& baseline) {
  const TempDir dir;
  put_file(dir / "b.json", baseline);
  Result<Report> result = apply_baseline(std::move(report), dir / "b.json");
  if (result.ok()) return std::move(result).value();
  ADD_FAILURE() << result.error().line();
  return {};
}

TEST(Baseline, TheSameReportIsAcceptedWhole) {
  const Report before = sample_report();
  const Report r = applied(before, report_json(before));
  EXPECT_EQ(exit_code(before), 1);
  EXPECT_EQ(exit_code(r), 0);
  EXPECT_EQ(r.verdict, Verdict::kDiverged) << "the truth stays";
  ASSERT_TRUE(r.baseline.has_value());
  EXPECT_EQ(r.baseline->accepted, 2);
  EXPECT_TRUE(r.baseline->gone.empty());
  EXPECT_TRUE(is_accepted(r.findings[0]));
  EXPECT_EQ(r.findings[0].severity, Severity::kInfo);
  EXPECT_FALSE(is_accepted(r.findings[2])) << "an info needs no acceptance";
  const std::string text = report_text(r, "m", {});
  EXPECT_NE(text.find("nothing new found wrong"), std::string::npos) << text;
  EXPECT_NE(text.find("2 known findings accepted, 0 gone"), std::string::npos) << text;
  const std::string xml = report_junit(r, "m");
  EXPECT_EQ(xml.find("<failure"), std::string::npos) << xml;
  const auto sarif = nlohmann::json::parse(report_sarif(r, "m"));
  EXPECT_EQ(sarif["runs"][0]["results"][0]["baselineState"], "unchanged");
}

TEST(Baseline, AReportThatWasAcceptedIsABaselineToo) {
  const Report before = sample_report();
  const Report once = applied(before, report_json(before));
  const Report twice = applied(before, report_json(once));
  EXPECT_EQ(exit_code(twice), 0);
  EXPECT_EQ(twice.baseline->accepted, 2);
}

TEST(Baseline, AnyOtherIdPointStepOrRankIsNew) {
  const std::string before = report_json(sample_report());
  for (int change = 0; change < 4; ++change) {
    Report r = sample_report();
    Finding& f = r.findings[0];
    if (change == 0) f.id = "rope-theta";
    if (change == 1) f.point = "model.layers.3.self_attn:q_rope";
    if (change == 2) f.step = 1;
    if (change == 3) f.rank = 1;
    r = applied(r, before);
    EXPECT_EQ(exit_code(r), 1) << change;
    EXPECT_EQ(r.findings[0].severity, Severity::kError);
    EXPECT_EQ(r.baseline->accepted, 1);
    ASSERT_EQ(r.baseline->gone.size(), 1U);
    EXPECT_NE(r.baseline->gone[0].find("rope-interleaved-vs-half"), std::string::npos);
  }
}

TEST(Baseline, AFindingIsAcceptedAsOftenAsItIsKnown) {
  Report r = sample_report();
  r.findings.insert(r.findings.begin(), r.findings[0]);
  r.findings[0].where = "head=0";  // the new one; the other is known at its very cells
  r = applied(r, report_json(sample_report()));
  EXPECT_EQ(exit_code(r), 1);
  EXPECT_EQ(r.findings[0].severity, Severity::kError);
  EXPECT_EQ(r.findings[1].severity, Severity::kInfo);
}

TEST(Baseline, ANewBadPointFailsWithoutAnyFinding) {
  for (const PointStatus status :
       {PointStatus::kDiverged, PointStatus::kNonfinite, PointStatus::kShape}) {
    Report r = sample_report();
    r.points[5].status = status;
    r = applied(r, report_json(sample_report()));
    EXPECT_EQ(exit_code(r), 1);
    ASSERT_EQ(r.baseline->new_points.size(), 1U);
    EXPECT_NE(r.baseline->new_points[0].find(r.points[5].point), std::string::npos);
  }
  Report bare;
  bare.verdict = Verdict::kDiverged;
  EXPECT_EQ(exit_code(applied(bare, report_json(Report{}))), 1);
}

TEST(Baseline, AKnownInfoExcusesNoErrorAndInvalidStaysInvalid) {
  Report known = sample_report();
  known.findings[0].severity = Severity::kInfo;
  EXPECT_EQ(exit_code(applied(sample_report(), report_json(known))), 1);
  Report invalid = sample_report();
  invalid.verdict = Verdict::kInvalid;
  EXPECT_EQ(exit_code(applied(invalid, report_json(invalid))), 2);
}

TEST(Baseline, WhatIsNoReportIsOneLine) {
  const TempDir dir;
  const std::vector<std::string> texts = {
      "",
      "[]",
      "null",
      "{}",
      R"({"format": "parscope-report/2"})",
      R"({"format": "parscope-report/1", "findings": {}})",
      R"({"format": "parscope-report/1", "findings": [1]})",
      R"({"format": "parscope-report/1", "findings": [{}]})",
      R"({"format": "parscope-report/1", "findings": [{"id": "x", "step": "0"}]})",
      R"({"format": "parscope-report/1", "points": [{"point": 7}]})",
      std::string(100000, '[')};
  for (const std::string& text : texts) {
    put_file(dir / "b.json", text);
    const Result<Report> result = apply_baseline(Report{}, dir / "b.json");
    ASSERT_FALSE(result.ok()) << text.substr(0, 80);
    EXPECT_EQ(result.error().kind, Error::Kind::kInput);
    EXPECT_EQ(result.error().line().find('\n'), std::string::npos);
    EXPECT_NE(result.error().line().find("b.json"), std::string::npos);
  }
  EXPECT_FALSE(apply_baseline(Report{}, dir / "absent.json").ok());
  EXPECT_TRUE(apply_baseline(Report{}, dir / "absent.json").error().line().find("absent") !=
              std::string::npos);
}

}  // namespace
}  // namespace ps
