// Workflow commands: what GitHub shows beside a commit. It shows ten of each kind a step.
#include "diff/report/baseline.h"
#include "diff/report/forms.h"
#include "diff/report/link.h"
#include "diff/report/strip.h"
#include "diff/report/words.h"

namespace ps {

namespace {

constexpr std::size_t kMost = 10;  // of a kind

// As the runner unescapes it; a property ends at ',' or ':'.
std::string escaped(std::string_view words, bool property) {
  std::string out;
  for (const char c : words) {
    if (c == '%') {
      out += "%25";
    } else if (c == '\r') {
      out += "%0D";
    } else if (c == '\n') {
      out += "%0A";
    } else if (property && c == ':') {
      out += "%3A";
    } else if (property && c == ',') {
      out += "%2C";
    } else {
      out += c;
    }
  }
  return out;
}

std::string command(const char* kind, const std::string& file, const std::string& title,
                    const std::vector<std::string>& lines) {
  std::string body;
  for (const std::string& line : lines) body += (body.empty() ? "" : "\n") + plain(line);
  return std::string("::") + kind + " file=" + escaped(plain(file), true) +
         ",title=" + escaped(plain(title), true) + "::" + escaped(body, false) + "\n";
}

}  // namespace

std::string report_annotations(const Report& report, const std::string& subject,
                               const std::string& artifact) {
  std::string out;
  const bool fails = exit_code(report) != 0;
  const std::string capture = capture_of(report);
  std::size_t shown[3] = {0, 0, 0};
  for (const Finding& f : report.findings) {
    // What an invalid or failing report says first must not drown in notes.
    if (f.severity == Severity::kInfo && fails) continue;
    std::size_t& n = shown[static_cast<std::size_t>(f.severity)];
    if (n++ >= kMost) continue;
    const char* kind = f.severity == Severity::kError     ? "error"
                       : f.severity == Severity::kWarning ? "warning"
                                                          : "notice";
    std::vector<std::string> lines = {f.message};
    const std::string place = place_text(f);
    if (!place.empty()) lines.push_back("at " + place);
    if (!f.fix.empty()) lines.push_back("fix: " + f.fix);
    if (!f.point.empty() && f.severity != Severity::kInfo)
      lines.push_back("view: " + to_string(link_to(capture, f)));
    if (is_accepted(f)) lines.emplace_back("accepted by the baseline");
    out += command(kind, artifact, "parscope: " + f.id, lines);
  }
  if (fails && shown[0] == 0) {
    std::vector<std::string> lines = {subject + ": " + headline(report)};
    if (report.first_divergence) {
      lines.push_back("first divergence: " + place_text(*report.first_divergence));
      lines.push_back("view: " + to_string(link_to(capture, *report.first_divergence)));
    }
    out += command("error", artifact, "parscope", lines);
  }
  return out;
}

}  // namespace ps
