#include "diff/report/report.h"

#include <limits>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace ps {
namespace {

using Document = nlohmann::ordered_json;

Finding finding(Severity severity) {
  Finding f;
  f.id = "rope-interleaved-vs-half";
  f.fault_class = "rope";
  f.severity = severity;
  f.step = 3;
  f.rank = 1;
  f.point = "model.layers.0.self_attn:q_rope";
  f.where = "head=2";
  f.message = "pairs \"(i, i+1)\" were rotated\nnot halves";
  f.evidence = {{"max_abs", "0.5"}, {"shape", "[2,3]"}, {"raw", "not json"}, {"text", "\"a\""}};
  f.fix = "rotate halves";
  f.confidence = Confidence::kUnnamed;
  return f;
}

std::vector<std::string> names(const Document& object) {
  std::vector<std::string> out;
  for (const auto& [name, value] : object.items()) out.push_back(name);
  return out;
}

TEST(Report, EmptyReportHasEveryFieldOfTheContract) {
  const std::string text = report_json(Report{});
  const Document json = Document::parse(text);
  EXPECT_EQ(names(json),
            (std::vector<std::string>{"format", "verdict", "first_divergence", "points", "findings",
                                      "blind_spots", "power", "environment", "inputs", "timing"}));
  EXPECT_EQ(json["format"], "parscope-report/1");
  EXPECT_EQ(json["verdict"], "equivalent");
  EXPECT_TRUE(json["first_divergence"].is_null());
  EXPECT_TRUE(json["points"].is_array());
  EXPECT_TRUE(json["environment"].is_object());
  EXPECT_TRUE(json["power"].is_null());
  EXPECT_EQ(text.back(), '\n');
}

TEST(Report, FilledReportIsWrittenFieldByField) {
  Report report;
  report.verdict = Verdict::kDiverged;
  report.first_divergence = {2, 1, "model.norm", "batch=0"};
  PointRow row;
  row.step = 2;
  row.point = "model.norm";
  row.shape = {2, 1, 48};
  row.dtype = "bfloat16";
  row.status = PointStatus::kPropagated;
  row.max_abs = 0.25;
  row.rel_l2 = std::numeric_limits<double>::quiet_NaN();
  row.max_ulp = 17;
  row.ratio = std::numeric_limits<double>::infinity();
  row.compared = 96;
  row.ignored = 5;
  report.points = {row};
  report.findings = {finding(Severity::kError)};
  report.blind_spots = {{"cache-beam-reorder-skipped", "no beam step was run"}};
  report.power = 0.97;
  report.inputs = {{"prompt", json_string("a\"b")}};
  const Document json = Document::parse(report_json(report));
  EXPECT_EQ(json["verdict"], "diverged");
  EXPECT_EQ(json["first_divergence"],
            Document({{"step", 2}, {"rank", 1}, {"point", "model.norm"}, {"where", "batch=0"}}));
  const Document& point = json["points"][0];
  EXPECT_EQ(names(point), (std::vector<std::string>{"step", "rank", "point", "shape", "dtype",
                                                    "status", "max_abs", "rel_l2", "max_ulp",
                                                    "ratio", "compared", "ignored"}));
  EXPECT_EQ(point["shape"], Document({2, 1, 48}));
  EXPECT_EQ(point["status"], "propagated");
  EXPECT_TRUE(point["rel_l2"].is_null());
  EXPECT_TRUE(point["ratio"].is_null());
  EXPECT_EQ(point["max_ulp"], 17);
  const Document& f = json["findings"][0];
  EXPECT_EQ(names(f),
            (std::vector<std::string>{"id", "class", "severity", "step", "rank", "point", "where",
                                      "message", "evidence", "fix", "confidence"}));
  EXPECT_EQ(f["class"], "rope");
  EXPECT_EQ(f["severity"], "error");
  EXPECT_EQ(f["confidence"], "unnamed");
  EXPECT_EQ(f["message"], "pairs \"(i, i+1)\" were rotated\nnot halves");
  EXPECT_EQ(f["evidence"]["max_abs"], 0.5);
  EXPECT_EQ(f["evidence"]["shape"], Document({2, 3}));
  EXPECT_EQ(f["evidence"]["raw"], "not json");
  EXPECT_EQ(f["evidence"]["text"], "a");
  EXPECT_EQ(json["blind_spots"][0]["id"], "cache-beam-reorder-skipped");
  EXPECT_EQ(json["power"], 0.97);
  EXPECT_EQ(json["inputs"]["prompt"], "a\"b");
}

TEST(Report, EveryStatusAndVerdictHasTheWordOfTheContract) {
  const std::vector<std::string> statuses = {"ok",      "diverged",  "propagated",
                                             "healed",  "nonfinite", "shape",
                                             "missing", "unmatched", "ignored"};
  for (std::size_t i = 0; i < statuses.size(); ++i) {
    EXPECT_EQ(to_string(static_cast<PointStatus>(i)), statuses[i]);
  }
  EXPECT_EQ(to_string(Verdict::kEquivalent), "equivalent");
  EXPECT_EQ(to_string(Verdict::kDiverged), "diverged");
  EXPECT_EQ(to_string(Verdict::kInvalid), "invalid");
}

TEST(Report, BytesThatAreNoTextStillMakeJson) {
  Report report;
  Finding f;
  f.message = "a\xff\xc3(\x01";
  f.evidence = {{"value", "\xff"}};
  report.findings = {f};
  report.inputs = {{"model", json_string("\xfe")}};
  EXPECT_TRUE(nlohmann::json::accept(report_json(report)));
}

TEST(Report, ExitCodeFollowsVerdictAndErrors) {
  Report report;
  EXPECT_EQ(exit_code(report), 0);
  report.findings = {finding(Severity::kWarning), finding(Severity::kInfo)};
  EXPECT_EQ(exit_code(report), 0);
  report.findings.push_back(finding(Severity::kError));
  EXPECT_EQ(exit_code(report), 1);
  report.verdict = Verdict::kInvalid;
  EXPECT_EQ(exit_code(report), 2);
  report.findings.clear();
  report.verdict = Verdict::kDiverged;
  EXPECT_EQ(exit_code(report), 1);
}

TEST(ReportText, SaysTheVerdictFirstAndEachFindingWithItsFix) {
  Report report;
  const std::string good = report_text(report, "m", {});
  EXPECT_NE(good.find("nothing wrong found"), std::string::npos) << good;
  report.findings = {finding(Severity::kError), finding(Severity::kWarning),
                     finding(Severity::kWarning)};
  const std::string text = report_text(report, "m", {});
  for (const char* words : {"m: ", "1 error", "2 warnings", "rope-interleaved-vs-half",
                            "model.layers.0.self_attn:q_rope", "head=2", "rotate halves"}) {
    EXPECT_NE(text.find(words), std::string::npos) << words << "\n" << text;
  }
  EXPECT_LT(text.find("1 error"), text.find("rope-interleaved-vs-half"));
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  EXPECT_NE(report_text(report, "m", {.color = true}).find("\x1b["), std::string::npos);
}

TEST(ReportText, DivergenceWithoutAFindingIsNotZeroErrors) {
  Report report;
  report.verdict = Verdict::kDiverged;
  report.first_divergence = {1, 0, "model.norm", "batch=0"};
  const std::string text = report_text(report, "m", {});
  EXPECT_EQ(text.find("0 errors"), std::string::npos) << text;
  for (const char* words : {"diverge", "step 1", "model.norm", "batch=0"}) {
    EXPECT_NE(text.find(words), std::string::npos) << words << "\n" << text;
  }
  report.verdict = Verdict::kInvalid;
  EXPECT_NE(report_text(report, "m", {}).find("cannot be compared"), std::string::npos);
}

}  // namespace
}  // namespace ps
