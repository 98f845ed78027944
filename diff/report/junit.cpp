#include <cstdio>

#include "diff/report/baseline.h"
#include "diff/report/forms.h"
#include "diff/report/link.h"
#include "diff/report/strip.h"
#include "diff/report/words.h"

namespace ps {

namespace {

std::string xml(std::string_view words) {
  std::string out;
  for (const char c : plain(words)) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string lines(const std::vector<std::string>& texts) {
  std::string out;
  for (const std::string& text : texts) {
    if (!text.empty()) out += xml(text) + "\n";
  }
  return out;
}

struct Suite {
  std::string name;
  std::string cases;
  std::size_t tests = 0, failures = 0, errors = 0, skipped = 0;

  // `element` is "", "failure", "error", "skipped" or "system-out".
  void add(const std::string& class_name, const std::string& test, const std::string& element,
           const std::string& message, const std::string& body) {
    ++tests;
    failures += element == "failure" ? 1U : 0U;
    errors += element == "error" ? 1U : 0U;
    skipped += element == "skipped" ? 1U : 0U;
    cases += "    <testcase classname=\"" + xml(class_name) + "\" name=\"" + xml(test) + "\"";
    if (element.empty()) {
      cases += "/>\n";
      return;
    }
    cases += ">\n      <" + element;
    if (element != "system-out") cases += " message=\"" + xml(message) + "\"";
    cases += ">" + body + "</" + element + ">\n    </testcase>\n";
  }
  std::string text() const {
    return "  <testsuite name=\"" + xml(name) + "\"" + numbers() + ">\n" + cases +
           "  </testsuite>\n";
  }
  std::string numbers() const {
    return " tests=\"" + std::to_string(tests) + "\" failures=\"" + std::to_string(failures) +
           "\" errors=\"" + std::to_string(errors) + "\" skipped=\"" + std::to_string(skipped) +
           "\"";
  }
};

Suite verdict_suite(const Report& report, const std::string& subject, const std::string& capture) {
  Suite suite;
  suite.name = "verdict";
  const int code = exit_code(report);
  const std::string words = headline(report);
  std::vector<std::string> body = {words};
  if (report.first_divergence) {
    body.push_back("first divergence: " + place_text(*report.first_divergence));
    body.push_back("view: " + to_string(link_to(capture, *report.first_divergence)));
  }
  if (report.baseline) {
    for (const std::string& line : baseline_lines(*report.baseline, 20)) body.push_back(line);
  }
  const char* element = code == 0 ? "system-out" : code == 1 ? "failure" : "error";
  suite.add("parscope", subject, element, words, lines(body));
  return suite;
}

Suite points_suite(const Report& report, const std::string& capture) {
  Suite suite;
  suite.name = "points";
  const bool fails = exit_code(report) != 0;
  for (const PointRow& row : report.points) {
    const std::string place =
        "step " + std::to_string(row.step) + ".rank " + std::to_string(row.rank);
    const std::string status(to_string(row.status));
    const std::string numbers = "ratio " + ratio_text(row.ratio) + ", max abs " +
                                number_text(row.max_abs) + ", rel L2 " + number_text(row.rel_l2) +
                                ", " + std::to_string(row.compared) + " cells compared";
    const bool passes = row.status == PointStatus::kOk || row.status == PointStatus::kHealed;
    // A point that was only fed wrong values, or not compared, is no failure of its own.
    const bool failure = !passes && is_bad(row) && fails;
    const char* element = passes ? "" : failure ? "failure" : "skipped";
    suite.add(place, row.point, element, status + ": " + numbers,
              failure ? xml("view: " + to_string(link_to(capture, row))) : "");
  }
  return suite;
}

Suite findings_suite(const Report& report, const std::string& capture) {
  Suite suite;
  suite.name = "findings";
  for (const Finding& f : report.findings) {
    const bool fails = f.severity == Severity::kError && exit_code(report) != 0;
    const char* element = fails ? "failure" : is_accepted(f) ? "skipped" : "system-out";
    std::string name = f.id + (f.point.empty() ? "" : " at " + f.point);
    name += " (step " + std::to_string(f.step) + ", rank " + std::to_string(f.rank) + ")";
    std::vector<std::string> body = {std::string(to_string(f.severity)) + ": " + f.message,
                                     "where: " + f.where, "evidence: " + evidence_text(f),
                                     "fix: " + f.fix};
    if (fails && !f.point.empty()) body.push_back("view: " + to_string(link_to(capture, f)));
    suite.add("parscope." + f.fault_class, name, element, f.message, lines(body));
  }
  return suite;
}

}  // namespace

std::string report_junit(const Report& report, const std::string& subject) {
  const std::string capture = capture_of(report);
  const std::vector<Suite> suites = {verdict_suite(report, subject, capture),
                                     points_suite(report, capture),
                                     findings_suite(report, capture)};
  Suite sum;
  std::string body;
  for (const Suite& suite : suites) {
    if (suite.tests == 0) continue;
    sum.tests += suite.tests;
    sum.failures += suite.failures;
    sum.errors += suite.errors;
    sum.skipped += suite.skipped;
    body += suite.text();
  }
  return "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"parscope " + xml(subject) +
         "\"" + sum.numbers() + ">\n" + body + "</testsuites>\n";
}

}  // namespace ps
