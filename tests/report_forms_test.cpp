#include <cstdio>
#include <cstdlib>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "diff/report/forms.h"
#include "diff/report/link.h"
#include "diff/report/strip.h"
#include "diff/report/text.h"
#include "diff/report/write.h"
#include "tests/support/sample_report.h"
#include "tests/support/temp_dir.h"

namespace ps {
namespace {

// Tags are closed in the order they were opened; attributes are quoted; only known entities.
std::string xml_problem(const std::string& text) {
  std::vector<std::string> open;
  std::string bare = std::regex_replace(text, std::regex("&(amp|lt|gt|quot);"), "");
  if (bare.find('&') != std::string::npos) return "a bare &";
  for (std::size_t i = 0; i < bare.size();) {
    if (bare[i] != '<') {
      ++i;
      continue;
    }
    const std::size_t end = bare.find('>', i);
    if (end == std::string::npos) return "a tag without end";
    const std::string tag = bare.substr(i + 1, end - i - 1);
    i = end + 1;
    if (tag.starts_with("?")) continue;
    static const std::regex kTag("/?[a-z-]+( [a-z]+=\"[^\"<]*\")*/?");
    if (!std::regex_match(tag, kTag)) return "a strange tag: " + tag;
    const std::string name = tag.substr(0, tag.find_first_of(" /", 1));
    if (tag.starts_with("/")) {
      if (open.empty() || "/" + open.back() != tag) return "closes what is not open: " + tag;
      open.pop_back();
    } else if (!tag.ends_with("/")) {
      open.push_back(name);
    }
  }
  return open.empty() ? "" : "not closed: " + open.back();
}

// ---- junit, sarif, github ----------------------------------------------------------------------

TEST(ReportJunit, FailsExactlyWhenTheExitCodeDoes) {
  Report equal;
  equal.points = {sample_row("lm_head", PointStatus::kOk, 0.1),
                  sample_row("my.point", PointStatus::kUnmatched, 0)};
  Report warned = equal;
  warned.findings = {sample_report().findings[1]};
  Report bare;
  bare.verdict = Verdict::kDiverged;
  Report invalid;
  invalid.verdict = Verdict::kInvalid;
  for (const Report& r : {equal, warned, bare, invalid, sample_report(), Report{}}) {
    const std::string xml = report_junit(r, "m");
    EXPECT_EQ(xml_problem(xml), "") << xml;
    const bool fails =
        xml.find("<failure") != std::string::npos || xml.find("<error") != std::string::npos;
    EXPECT_EQ(fails, exit_code(r) != 0) << xml;
  }
}

TEST(ReportJunit, OneTestcaseAPointAndCountsThatAreRight) {
  const Report r = sample_report();
  const std::string xml = report_junit(r, "m");
  EXPECT_EQ(occurrences(xml, "<testcase "), r.points.size() + r.findings.size() + 1);
  EXPECT_EQ(occurrences(xml, "<failure"), 3U);  // the verdict, the point, the finding
  EXPECT_NE(xml.find("tests=\"113\" failures=\"3\" errors=\"0\" skipped=\"67\""), std::string::npos)
      << xml.substr(0, 400);
}

// Every failing line leads to its spot: as many links as bad points and errors, each of this
// report.
TEST(ReportLinks, EveryFailingLineHasOne) {
  Report r = sample_report();
  r.points.push_back(sample_row("model.norm", PointStatus::kDiverged, 7));
  std::set<std::string> points, errors;
  for (const PointRow& row : r.points) {
    if (is_bad(row)) points.insert(to_string(link_to(capture_of(r), row)));
  }
  for (const Finding& f : r.findings) {
    if (f.severity == Severity::kError && !f.point.empty())
      errors.insert(to_string(link_to(capture_of(r), f)));
  }
  ASSERT_GE(points.size(), 2u);
  ASSERT_FALSE(errors.empty());
  const auto expect_all = [](const std::string& name, const std::string& form,
                             const std::set<std::string>& links) {
    const std::string text = std::regex_replace(form, std::regex("&amp;"), "&");
    for (const std::string& link : links)
      EXPECT_NE(text.find(link), std::string::npos) << name << ": " << link;
  };
  const std::map<std::string, std::string> forms = {{"junit", report_junit(r, "m")},
                                                    {"html", report_html(r, "m", {})},
                                                    {"markdown", report_markdown(r, "m", {})},
                                                    {"text", report_text(r, "m", {})}};
  for (const auto& [name, form] : forms) {
    expect_all(name, form, points);
    expect_all(name, form, errors);
  }
  // GitHub shows findings, and no points.
  expect_all("github", report_annotations(r, "m", "m"), errors);
  const auto sarif = nlohmann::json::parse(report_sarif(r, "m"));
  for (const auto& result : sarif["runs"][0]["results"]) {
    if (result["level"] != "error") continue;
    EXPECT_TRUE(errors.contains(result["properties"].value("view", ""))) << result.dump();
  }
}

// Where no finding names the error, the annotation of the verdict leads to the first divergence.
TEST(ReportLinks, AnAnnotationWithoutFindingsLeadsToTheFirstDivergence) {
  Report r = sample_report();
  r.findings.clear();
  const std::string link = to_string(link_to(capture_of(r), *r.first_divergence));
  const std::string out = report_annotations(r, "m", "m");
  EXPECT_NE(out.find("view: " + link), std::string::npos) << out;
  EXPECT_EQ(out.find('\n'), out.size() - 1) << "one workflow command, one line";
}

TEST(ReportSarif, RulesAreTheIdsAndResultsPointAtThem) {
  Report r = sample_report();
  r.findings.push_back(r.findings[0]);
  const auto json = nlohmann::json::parse(report_sarif(r, "models/a b%.json"));
  EXPECT_EQ(json["version"], "2.1.0");
  const auto& run = json["runs"][0];
  const auto& rules = run["tool"]["driver"]["rules"];
  EXPECT_EQ(rules.size(), 3U);
  ASSERT_EQ(run["results"].size(), 4U);
  const std::vector<std::string> levels = {"error", "warning", "note", "error"};
  for (std::size_t i = 0; i < 4; ++i) {
    const auto& result = run["results"][i];
    EXPECT_EQ(rules[result["ruleIndex"].get<std::size_t>()]["id"], result["ruleId"]);
    EXPECT_EQ(result["level"], levels[i]);
    EXPECT_EQ(result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"],
              "models/a%20b%25.json");
    EXPECT_FALSE(result["message"]["text"].get<std::string>().empty());
  }
  EXPECT_EQ(run["results"][0]["partialFingerprints"], run["results"][3]["partialFingerprints"]);
  EXPECT_NE(run["results"][0]["partialFingerprints"], run["results"][1]["partialFingerprints"]);
}

TEST(ReportGithub, AnnotationsAreOneLineEachAndEscaped) {
  const std::string text = report_annotations(sample_report(), "m", "dir/config.json");
  EXPECT_TRUE(text.starts_with(
      "::error file=dir/config.json,title=parscope%3A rope-interleaved-vs-half::The pairs"))
      << text;
  EXPECT_EQ(occurrences(text, "\n"), 2U);
  const std::string evil = report_annotations(hostile_report(), "m", "f");
  EXPECT_EQ(occurrences(evil, "\n"), 2U) << evil;
  EXPECT_EQ(occurrences(evil, "\n::error::"), 0U);
  Report bare;
  bare.verdict = Verdict::kDiverged;
  EXPECT_TRUE(report_annotations(bare, "m", "f").starts_with("::error file=f"));
  EXPECT_EQ(report_annotations(Report{}, "m", "f"), "");
}

// ---- markdown, html ----------------------------------------------------------------------------

TEST(ReportHtml, IsOneFileWithoutNetworkOrScripts) {
  const std::vector<ReportPicture> pictures = {{"strip.png", "the strip", "light", "dark"}};
  const std::string html = report_html(sample_report(), "m", pictures);
  for (const char* never : {"http://", "https://", "<script", "<link", "@import", "url("}) {
    EXPECT_EQ(html.find(never), std::string::npos) << never;
  }
  EXPECT_NE(html.find("data:image/png;base64,bGlnaHQ="), std::string::npos);
  EXPECT_NE(html.find("prefers-color-scheme: dark"), std::string::npos);
  EXPECT_NE(html.find("@media print"), std::string::npos);
  for (const char* words : {"diverged", "rope-interleaved-vs-half", "query=7", "97 %"}) {
    EXPECT_NE(html.find(words), std::string::npos) << words;
  }
}

TEST(ReportHtml, NothingInAFileBecomesMarkup) {
  const std::string html = report_html(hostile_report(), "<b>m</b>", {});
  EXPECT_EQ(html.find("<script"), std::string::npos);
  EXPECT_EQ(html.find("<b>"), std::string::npos);
  EXPECT_EQ(html.find('\x1b'), std::string::npos);
  EXPECT_NE(html.find("&lt;script&gt;"), std::string::npos);
  const std::string xml = report_junit(hostile_report(), "<b>&\"");
  EXPECT_EQ(xml_problem(xml), "") << xml;
  EXPECT_TRUE(nlohmann::json::accept(report_sarif(hostile_report(), "\xff<")));
}

TEST(ReportMarkdown, NothingInAFileBecomesMarkup) {
  const std::string text = report_markdown(hostile_report(), "m|*x*", {});
  const std::string no_escapes = std::regex_replace(text, std::regex("\\\\."), "");
  EXPECT_EQ(std::regex_replace(no_escapes, std::regex("`[^`\n]*`"), "").find("<script"),
            std::string::npos);
  EXPECT_NE(text.find("m\\|\\*x\\*"), std::string::npos);
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    EXPECT_FALSE(line.starts_with("::error")) << line;
  }
}

// ---- files -------------------------------------------------------------------------------------

TEST(WriteReports, WritesEveryFormAndLeavesNothingElse) {
  const TempDir dir;
  ReportOptions options;
  options.dir = dir / "new" / "report";
  ErrorGridBuilder grid({2, 3});
  grid.add(4, 7.0);
  options.pictures.assign(2, {0, 0, "lm_head", {2, 3}, grid.grid()});
  const Report r = sample_report();
  for (int twice = 0; twice < 2; ++twice) {
    const Result<void> written = write_reports(r, "m", options);
    ASSERT_TRUE(written.ok()) << written.error().line();
  }
  options.pictures.pop_back();
  ASSERT_TRUE(write_reports(r, "m", options).ok());
  std::set<std::string> names;
  for (const auto& e : std::filesystem::directory_iterator(options.dir)) {
    names.insert(e.path().filename().string());
  }
  EXPECT_EQ(names, (std::set<std::string>{"report.json", "report.md", "report.html", "junit.xml",
                                          "sarif.json", "strip.png", "tensor-1.png"}));
  EXPECT_EQ(get_file(options.dir / "report.json"), report_json(r));
  EXPECT_TRUE(get_file(options.dir / "strip.png").starts_with("\x89PNG"));
  EXPECT_NE(get_file(options.dir / "report.html").find("1 of 6 cells over the bound"),
            std::string::npos);
}

TEST(WriteReports, FolderThatCannotBeWrittenIsOneLineBeforeTheWork) {
  const TempDir dir;
  put_file(dir / "file", "x");
  for (const std::filesystem::path& path : {dir / "file", dir / "file" / "below"}) {
    const Result<void> ready = prepare_report_dir(path);
    ASSERT_FALSE(ready.ok());
    EXPECT_EQ(ready.error().kind, Error::Kind::kInput);
    EXPECT_EQ(ready.error().line().find('\n'), std::string::npos);
    EXPECT_NE(ready.error().line().find("file"), std::string::npos);
    ReportOptions options;
    options.dir = path;
    EXPECT_FALSE(write_reports(Report{}, "m", options).ok());
  }
  ASSERT_TRUE(prepare_report_dir(dir / "good").ok());
  EXPECT_TRUE(std::filesystem::is_empty(dir / "good"));
}

TEST(WriteReports, GithubGetsAnnotationsAndAStepSummary) {
  const TempDir dir;
  const std::string summary = (dir / "summary.md").string(), lines = (dir / "lines").string();
  put_file(summary, "before\n");
  ReportOptions options;
  options.github = true;
  options.annotations = std::fopen(lines.c_str(), "w");
  ::setenv("GITHUB_STEP_SUMMARY", summary.c_str(), 1);
  const Result<void> written = write_reports(sample_report(), "m", options);
  ::unsetenv("GITHUB_STEP_SUMMARY");
  std::fclose(options.annotations);
  ASSERT_TRUE(written.ok()) << written.error().line();
  EXPECT_TRUE(get_file(summary).starts_with("before\n# parscope: m"));
  EXPECT_TRUE(get_file(lines).starts_with("::error "));
}

}  // namespace
}  // namespace ps
