// One file without scripts, fonts or addresses: it opens from a mail or a CI artifact as it is.
#include <algorithm>
#include <cstdio>

#include "diff/picture/png.h"
#include "diff/report/baseline.h"
#include "diff/report/forms.h"
#include "diff/report/html_style.h"
#include "diff/report/link.h"
#include "diff/report/strip.h"
#include "diff/report/words.h"

namespace ps {

namespace {

constexpr std::size_t kMostFindings = 500;
constexpr std::size_t kMostRows = 2000;
constexpr std::size_t kMostSpots = 500;

// Text, line breaks kept, markup none.
std::string text(std::string_view words) {
  std::string out;
  while (true) {
    const std::size_t end = words.find('\n');
    for (const char c : plain(words.substr(0, end))) {
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
    if (end == std::string_view::npos) return out;
    out += "\n";
    words.remove_prefix(end + 1);
  }
}

std::string element(const std::string& tag, const std::string& inner) {
  return "<" + tag + ">" + inner + "</" + tag.substr(0, tag.find(' ')) + ">";
}
std::string code(std::string_view words) { return element("code", text(words)); }
std::string term(const std::string& name, const std::string& inner) {
  return element("dt", text(name)) + element("dd", inner) + "\n";
}
std::string more(std::size_t n) {
  if (n == 0) return "";
  return element("p class=\"faint\"",
                 "... and " + std::to_string(n) + " more; report.json has all of them") +
         "\n";
}

std::string verdict_part(const Report& report) {
  const bool good = exit_code(report) == 0;
  std::string out = std::string("<div class=\"verdict") + (good ? "" : " bad") + "\">" +
                    element("strong", text(headline(report))) + "\n<dl>";
  out += term("verdict", text(to_string(report.verdict)));
  if (report.first_divergence) {
    out += term("first divergence", code(place_text(*report.first_divergence)));
    out += term("view", code(to_string(link_to(capture_of(report), *report.first_divergence))));
  }
  if (const Finding* cause = cause_of(report)) {
    out += term("cause", code(cause->id) + " &mdash; " + text(cause->message));
    if (!cause->fix.empty()) out += term("fix", element("strong", text(cause->fix)));
  }
  if (!report.points.empty()) out += term("compared", text(points_summary(report)));
  if (report.power) {
    char share[16];
    std::snprintf(share, sizeof share, "%.3g %%", *report.power * 100);
    out += term("power", std::string("would have shown ") + share +
                             " of the faults that apply to this model");
  }
  if (report.baseline) {
    std::string lines;
    for (const std::string& line : baseline_lines(*report.baseline, 50)) {
      lines += (lines.empty() ? "" : "<br>") + text(line);
    }
    out += term("baseline", lines);
  }
  return out + "</dl></div>\n";
}

std::string picture_part(const ReportPicture& picture) {
  const std::string data = "data:image/png;base64,";
  std::string out = "<figure><picture>";
  if (!picture.dark_png.empty()) {
    out += "<source media=\"(prefers-color-scheme: dark)\" srcset=\"" + data +
           base64(picture.dark_png) + "\">";
  }
  out += "<img alt=\"" + text(picture.caption) + "\" src=\"" + data + base64(picture.light_png) +
         "\"></picture>";
  return out + element("figcaption", text(picture.caption)) + "</figure>\n";
}

std::string finding_part(const std::string& capture, const Finding& f) {
  const std::string severity(to_string(f.severity));
  std::string out =
      "<div class=\"finding\">" + element("span class=\"tag " + severity + "\"", severity) + " " +
      code(f.id) +
      element("span class=\"faint\"",
              " " + text(f.fault_class) + (is_accepted(f) ? ", accepted by the baseline" : ""));
  const std::string place = place_text(f);
  if (!place.empty()) out += element("p", "at " + code(place));
  out += element("p", text(f.message));
  if (!f.point.empty() && f.severity != Severity::kInfo) {
    out += element("p class=\"faint\"", "view: " + code(to_string(link_to(capture, f))));
  }
  if (!f.fix.empty()) out += element("p", "fix: " + element("strong", text(f.fix)));
  if (f.severity != Severity::kInfo) {
    out += element("p class=\"faint\"", text(meaning_of(f.confidence)));
  }
  if (!f.evidence.empty()) {
    out += "<dl class=\"mono\">";
    for (const auto& [name, json] : f.evidence) out += term(name, text(json));
    out += "</dl>";
  }
  return out + "</div>\n";
}

std::string points_part(const Report& report) {
  std::vector<const PointRow*> rows = points_worst_first(report);
  if (rows.empty()) return "";
  if (rows.size() > kMostRows) rows.resize(kMostRows);
  std::string out = element("h2", "Points, worst first") +
                    "\n<input type=\"checkbox\" id=\"hide\"><label for=\"hide\"> hide what is ok"
                    "</label>\n<div class=\"scroll\"><table><thead><tr><th>status</th>"
                    "<th class=\"n\">of the bound</th><th class=\"n\">max abs</th>"
                    "<th class=\"n\">rel L2</th><th class=\"n\">ulp</th><th>point</th>"
                    "<th class=\"n\">step</th><th class=\"n\">rank</th><th>shape</th>"
                    "<th>dtype</th><th class=\"n\">cells</th><th class=\"n\">ignored</th>"
                    "<th>view</th></tr></thead><tbody>\n";
  const std::string capture = capture_of(report);
  const auto number = [](const std::string& words) { return "<td class=\"n\">" + words + "</td>"; };
  for (const PointRow* row : rows) {
    const std::string status(to_string(row->status));
    out +=
        "<tr class=\"" + status + "\">" + element("td", status) + number(ratio_text(row->ratio)) +
        number(number_text(row->max_abs)) + number(number_text(row->rel_l2)) +
        number(ulp_text(*row)) + element("td", code(row->point)) +
        number(std::to_string(row->step)) + number(std::to_string(row->rank)) +
        element("td", text(to_string(row->shape))) + element("td", text(row->dtype)) +
        number(std::to_string(row->compared)) + number(std::to_string(row->ignored)) +
        element("td class=\"faint\"", is_bad(*row) ? code(to_string(link_to(capture, *row))) : "") +
        "</tr>\n";
  }
  return out + "</tbody></table></div>\n" + more(report.points.size() - rows.size());
}

std::string limits_part(const Report& report) {
  if (report.blind_spots.empty()) return "";
  std::string out = element("h2", "What this run does not show") + "\n<dl>";
  const std::size_t n = std::min(report.blind_spots.size(), kMostSpots);
  for (std::size_t i = 0; i < n; ++i) {
    const BlindSpot& spot = report.blind_spots[i];
    out += element("dt", code(spot.id)) + element("dd", text(spot.why)) + "\n";
  }
  return out + "</dl>\n" + more(report.blind_spots.size() - n);
}

std::string facts_part(const Report& report) {
  std::string out;
  for (const auto* fields : {&report.inputs, &report.environment, &report.timing}) {
    for (const auto& [name, json] : *fields) {
      constexpr std::size_t kMost = 2000;
      out += term(name, code(json.size() > kMost ? json.substr(0, kMost) + " ..." : json));
    }
  }
  if (out.empty()) return "";
  return element("h2", "Inputs, environment, timing") + "\n<dl>" + out + "</dl>\n";
}

}  // namespace

std::string report_html(const Report& report, const std::string& subject,
                        const std::vector<ReportPicture>& pictures) {
  std::string out =
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
      "style-src 'unsafe-inline'; img-src data:\">\n<title>parscope: " +
      text(subject) + "</title>\n<style>" + std::string(kReportCss) + "</style></head><body>\n" +
      element("h1", "parscope: " + text(subject)) + "\n" + verdict_part(report);
  // The strip right below the verdict, the tensors below the findings that they show.
  const auto part_of = [&](bool strip) {
    for (const ReportPicture& picture : pictures) {
      if ((picture.file == "strip.png") == strip) out += picture_part(picture);
    }
  };
  part_of(true);
  const std::string capture = capture_of(report);
  if (!report.findings.empty()) out += element("h2", "Findings") + "\n";
  const std::size_t n = std::min(report.findings.size(), kMostFindings);
  for (std::size_t i = 0; i < n; ++i) out += finding_part(capture, report.findings[i]);
  out += more(report.findings.size() - n);
  part_of(false);
  out += points_part(report) + limits_part(report) + facts_part(report);
  return out + "</body></html>\n";
}

}  // namespace ps
