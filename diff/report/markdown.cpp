#include <algorithm>
#include <cstdio>

#include "diff/report/baseline.h"
#include "diff/report/forms.h"
#include "diff/report/link.h"
#include "diff/report/strip.h"
#include "diff/report/text.h"
#include "diff/report/words.h"

namespace ps {

namespace {

constexpr std::size_t kMostFindings = 30;
constexpr std::size_t kMostRows = 20;
constexpr std::size_t kMostSpots = 30;

// Plain words: nothing in them is markup, not even in GitHub's dialect.
std::string escaped(std::string_view words) {
  std::string out;
  for (const char c : plain(words)) {
    if (std::string_view("\\`*_{}[]()#+-!|~>@").find(c) != std::string_view::npos) out += '\\';
    if (c == '<') {
      out += "&lt;";
    } else if (c == '&') {
      out += "&amp;";
    } else {
      out += c;
    }
  }
  return out;
}

// A code span; in a table's cell '|' needs an escape even there.
enum class In { kText, kTable };
std::string code(std::string_view words, In in = In::kText) {
  if (words.empty()) return "";
  std::string out = "`";
  for (const char c : plain(words)) {
    if (c == '|' && in == In::kTable) out += '\\';
    out += c == '`' ? '\'' : c;
  }
  return out + "`";
}

std::string more(std::size_t n) {
  return n == 0 ? "" : "\n... and " + std::to_string(n) + " more (report.json has all)\n";
}

std::string finding_words(const std::string& capture, const Finding& f) {
  std::string out = "- **" + std::string(to_string(f.severity)) + "** " + code(f.id) + " (" +
                    escaped(f.fault_class) + ")";
  const std::string place = place_text(f);
  if (!place.empty()) out += " at " + code(place);
  if (is_accepted(f)) out += " *accepted by the baseline*";
  out += "  \n  " + escaped(f.message) + "\n";
  if (f.severity != Severity::kInfo) {
    out += "  - " + escaped(meaning_of(f.confidence)) + "\n";
    if (!f.evidence.empty()) {
      std::string evidence = evidence_text(f);
      constexpr std::size_t kMostEvidence = 600;
      if (evidence.size() > kMostEvidence) evidence = evidence.substr(0, kMostEvidence) + " ...";
      out += "  - evidence: " + code(evidence) + "\n";
    }
  }
  if (!f.fix.empty()) out += "  - fix: **" + escaped(f.fix) + "**\n";
  if (!f.point.empty() && f.severity != Severity::kInfo) {
    out += "  - view: " + code(to_string(link_to(capture, f))) + "\n";
  }
  return out;
}

std::string findings_words(const Report& report) {
  if (report.findings.empty()) return "";
  std::string out = "\n## Findings\n\n";
  const std::size_t n = std::min(report.findings.size(), kMostFindings);
  const std::string capture = capture_of(report);
  for (std::size_t i = 0; i < n; ++i) out += finding_words(capture, report.findings[i]);
  return out + more(report.findings.size() - n);
}

std::string points_words(const Report& report) {
  if (report.points.empty()) return "";
  std::string out = "\n## Points\n\n" + escaped(points_summary(report)) + "\n";
  const Strip strip = strip_of(report);
  if (!strip.empty()) {
    std::string text = strip_text(strip, {.color = false, .quiet = false, .width = 100});
    std::replace(text.begin(), text.end(), '`', '\'');
    out += "\nError over the bound that rounding explains:\n\n```text\n" + text + "```\n";
  }
  const std::vector<const PointRow*> rows = worst_points(report, kMostRows);
  if (rows.empty()) return out;
  out += "\n| status | of the bound | max abs | rel L2 | ulp | point | step | rank | view |\n";
  out += "|---|--:|--:|--:|--:|---|--:|--:|---|\n";
  const std::string capture = capture_of(report);
  for (const PointRow* row : rows) {
    out += "| " + std::string(to_string(row->status)) + " | " + ratio_text(row->ratio) + " | " +
           number_text(row->max_abs) + " | " + number_text(row->rel_l2) + " | " + ulp_text(*row) +
           " | " + code(row->point, In::kTable) + " | " + std::to_string(row->step) + " | " +
           std::to_string(row->rank) + " | " +
           (is_bad(*row) ? code(to_string(link_to(capture, *row)), In::kTable) : "") + " |\n";
  }
  return out + "\nreport.json has all points.\n";
}

std::string limits_words(const Report& report) {
  std::string out;
  if (!report.power && report.blind_spots.empty()) return out;
  out += "\n## What this run does not show\n\n";
  if (report.power) {
    char share[16];
    std::snprintf(share, sizeof share, "%.3g %%", *report.power * 100);
    out += std::string("It would have shown ") + share +
           " of the faults that apply to this model.\n\n";
  }
  const std::size_t n = std::min(report.blind_spots.size(), kMostSpots);
  for (std::size_t i = 0; i < n; ++i) {
    const BlindSpot& spot = report.blind_spots[i];
    out += "- " + code(spot.id) + ": " + escaped(spot.why) + "\n";
  }
  return out + more(report.blind_spots.size() - n);
}

std::string facts_words(const Report& report) {
  std::string out;
  for (const auto* fields : {&report.inputs, &report.environment, &report.timing}) {
    for (const auto& [name, json] : *fields) {
      constexpr std::size_t kMost = 200;
      const std::string value = json.size() > kMost ? json.substr(0, kMost) + " ..." : json;
      out += "| " + escaped(name) + " | " + code(value, In::kTable) + " |\n";
    }
  }
  if (out.empty()) return out;
  return "\n<details><summary>Inputs, environment, timing</summary>\n\n| | |\n|---|---|\n" + out +
         "\n</details>\n";
}

}  // namespace

std::string report_markdown(const Report& report, const std::string& subject,
                            const std::vector<ReportPicture>& pictures) {
  const int exit = exit_code(report);
  std::string out = "# parscope: " + escaped(subject) + "\n\n";
  out += std::string(exit == 0   ? "✅"
                     : exit == 1 ? "❌"
                                 : "⚠️") +
         " **" + escaped(headline(report)) +
         "** (verdict: " + std::string(to_string(report.verdict)) + ")\n";
  if (report.first_divergence) {
    out += "\n**First divergence:** " + code(place_text(*report.first_divergence)) + "\n";
    out +=
        "\nView: " + code(to_string(link_to(capture_of(report), *report.first_divergence))) + "\n";
  }
  if (report.baseline) {
    out += "\n";
    for (const std::string& line : baseline_lines(*report.baseline, 20)) {
      out += "- " + escaped(line) + "\n";
    }
  }
  out += findings_words(report) + points_words(report);
  for (const ReportPicture& picture : pictures) {
    out += "\n![" + escaped(picture.caption) + "](" + picture.file + ")\n";
  }
  return out + limits_words(report) + facts_words(report);
}

}  // namespace ps
