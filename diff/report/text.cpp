// The report on a terminal: the verdict and the first divergence on top, then the findings.
#include <algorithm>

#include "diff/report/report.h"

namespace ps {

namespace {

struct Paint {
  bool on;
  std::string operator()(const char* code, const std::string& text) const {
    return on ? std::string("\x1b[") + code + "m" + text + "\x1b[0m" : text;
  }
};

const char* severity_color(Severity s) {
  switch (s) {
    case Severity::kError:
      return "31;1";
    case Severity::kWarning:
      return "33";
    case Severity::kInfo:
      return "36";
  }
  return "0";
}

std::string plural(std::size_t n, const std::string& word) {
  return std::to_string(n) + " " + word + (n == 1 ? "" : "s");
}

std::string finding_text(const Finding& f, const Paint& paint) {
  std::string out = "  " + paint(severity_color(f.severity), std::string(to_string(f.severity)));
  out += "  " + f.id;
  if (!f.point.empty()) out += "  " + f.point;
  if (!f.where.empty()) out += "  " + f.where;
  out += "\n      " + f.message + "\n";
  if (!f.fix.empty()) out += "      fix: " + f.fix + "\n";
  return out;
}

}  // namespace

std::string report_text(const Report& report, const std::string& subject, const TextStyle& style) {
  const Paint paint{style.color};
  const auto count = [&](Severity s) {
    return static_cast<std::size_t>(
        std::count_if(report.findings.begin(), report.findings.end(),
                      [s](const Finding& f) { return f.severity == s; }));
  };
  const std::size_t errors = count(Severity::kError), warnings = count(Severity::kWarning);
  const bool good = exit_code(report) == 0;
  std::string out = subject + ": ";
  if (good) {
    out += paint("32;1", "nothing wrong found");
  } else if (report.verdict == Verdict::kInvalid) {
    out += paint("31;1", "these runs cannot be compared");
  } else {
    out += paint("31;1", plural(errors, "error"));
  }
  if (warnings > 0) out += ", " + plural(warnings, "warning");
  out += "\n";
  if (report.first_divergence) {
    const FirstDivergence& d = *report.first_divergence;
    out += "first divergence: step " + std::to_string(d.step) + ", rank " + std::to_string(d.rank) +
           ", " + paint("1", d.point) + "  " + d.where + "\n";
  }
  for (const Finding& f : report.findings) out += finding_text(f, paint);
  return out;
}

}  // namespace ps
