// The report on a terminal: the verdict and the first divergence with its cause on top, then the
// other findings, the strip, the worst points, and what this run could not have shown.
#include "diff/report/text.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "diff/report/baseline.h"
#include "diff/report/link.h"
#include "diff/report/words.h"

namespace ps {

namespace {

constexpr std::size_t kMostFindings = 20;
constexpr std::size_t kMostRows = 8;
constexpr std::size_t kMostSpots = 6;

const char* severity_color(Severity s) {
  switch (s) {
    case Severity::kError:
      return "31;1";
    case Severity::kWarning:
      return "33;1";
    case Severity::kInfo:
      return "36";
  }
  return "0";
}

class Writer {
 public:
  Writer(const Report& report, const TextStyle& style)
      : report_(report),
        style_(style),
        paint_{style.color},
        width_(static_cast<std::size_t>(std::clamp(style.width, 80, 400))) {
    style_.width = static_cast<int>(width_);
  }

  std::string all(const std::string& subject) {
    const bool good = exit_code(report_) == 0;
    paragraph(subject + ": ", headline(report_), good ? "32;1" : "31;1");
    first_divergence();
    if (report_.baseline) {
      for (const std::string& words : baseline_lines(*report_.baseline, kMostSpots)) {
        paragraph("", words);
      }
    }
    findings();
    if (!style_.quiet || !good) points();
    if (!style_.quiet) tolerance_over_ranks();
    if (!style_.quiet) blind_spots();
    return std::move(out_);
  }

 private:
  // `lead`, then the words, wrapped under their own beginning.
  void paragraph(const std::string& lead, const std::string& words, const char* color = nullptr) {
    const std::size_t indent = columns_of(lead) < width_ / 2 ? columns_of(lead) : 4;
    if (indent != columns_of(lead)) {
      for (const std::string& line : wrapped(lead + words, width_)) put("", line, color);
      return;
    }
    std::string left = plain(lead);
    for (const std::string& line : wrapped(words, width_ - indent)) {
      put(left, line, color);
      left.assign(indent, ' ');
    }
  }
  void put(const std::string& left, const std::string& line, const char* color) {
    out_ += left + (color != nullptr ? paint_(color, line) : line) + "\n";
  }

  void first_divergence() {
    if (!report_.first_divergence) return;
    const FirstDivergence& d = *report_.first_divergence;
    paragraph(
        "first divergence: ",
        d.point + "  (step " + std::to_string(d.step) + ", rank " + std::to_string(d.rank) + ")",
        "1");
    if (!d.where.empty()) paragraph("              at: ", d.where);
    // Never broken over lines: it is copied whole.
    out_ += "            view: " + to_string(link_to(capture_of(report_), d)) + "\n";
    const auto row = std::find_if(report_.points.begin(), report_.points.end(), [&](auto& p) {
      return p.point == d.point && p.step == d.step && p.rank == d.rank;
    });
    if (row != report_.points.end()) {
      paragraph("           error: ", error_text(*row));
    }
    const Finding* cause = cause_of(report_);
    if (cause == nullptr) return;
    paragraph("           cause: ", cause->id + "  [" + cause->fault_class + "]", "1");
    about(*cause, "                  ", "             fix: ");
  }

  static std::string error_text(const PointRow& row) {
    std::string out;
    if (row.status == PointStatus::kShape) {
      out = "the shape differs: " + to_string(row.shape) + "; nothing was compared";
      return out;
    }
    const std::string ratio = ratio_text(row.ratio);
    out = row.ratio > 1 ? ratio.substr(0, ratio.size() - 1) + " times what rounding explains"
                        : ratio + " of what rounding explains";
    if (ratio == "not finite") out = "not finite where the other side is";
    const std::string ulp = ulp_text(row);
    out += "; max abs " + number_text(row.max_abs) + ", rel L2 " + number_text(row.rel_l2) + ", " +
           (ulp.empty() ? "" : ulp + " ulp, ") + std::to_string(row.compared) + " cells";
    if (row.ignored > 0) out += " (" + std::to_string(row.ignored) + " ignored)";
    return out;
  }

  void about(const Finding& f, const std::string& indent, const std::string& fix) {
    if (!f.message.empty()) paragraph(indent, f.message);
    const bool certain = f.severity != Severity::kInfo && f.confidence != Confidence::kExact;
    const bool replayed = cause_of(report_) == &f;
    if (certain || replayed) paragraph(indent, "(" + std::string(meaning_of(f.confidence)) + ")");
    if (!f.evidence.empty() && f.severity != Severity::kInfo) {
      std::string words = "evidence: " + evidence_text(f);
      constexpr std::size_t kMostEvidence = 600;
      if (words.size() > kMostEvidence) {
        words = words.substr(0, kMostEvidence) + " ... (--json shows all)";
      }
      paragraph(indent, words);
    }
    if (!f.fix.empty()) paragraph(fix, f.fix, "1");
  }

  void findings() {
    const Finding* cause = cause_of(report_);
    const std::string capture = report_.findings.empty() ? "" : capture_of(report_);
    std::size_t shown = 0, hidden = 0;
    for (const Finding& f : report_.findings) {
      if (&f == cause || (style_.quiet && f.severity == Severity::kInfo)) continue;
      if (shown == kMostFindings) {
        ++hidden;
        continue;
      }
      ++shown;
      finding(f, capture);
    }
    if (hidden > 0) out_ += "  " + more_text(hidden) + "\n";
  }

  void finding(const Finding& f, const std::string& capture) {
    const std::string severity(to_string(f.severity));
    std::string head = f.id;
    const std::string place = place_text(f);
    if (!place.empty()) head += "  " + place;
    if (is_accepted(f)) head += "  (accepted by the baseline)";
    bool first = true;
    for (const std::string& line : wrapped(head, width_ - severity.size() - 4)) {
      out_ += first ? "  " + paint_(severity_color(f.severity), severity) + "  " : "      ";
      out_ += line + "\n";
      first = false;
    }
    about(f, "      ", "      fix: ");
    // Never broken over lines: it is copied whole.
    if (f.severity == Severity::kError && !f.point.empty() && !report_.points.empty())
      out_ += "      view: " + to_string(link_to(capture, f)) + "\n";
  }

  void points() {
    if (report_.points.empty()) return;
    const bool clean = std::all_of(report_.points.begin(), report_.points.end(), [](auto& row) {
      return row.status == PointStatus::kOk || row.status == PointStatus::kIgnored;
    });
    if (clean) {  // nothing to look for, so nothing to look at
      const PointRow* row = worst_points(report_, 1).front();
      // Rounded down: a run that is right must not read as if it touched its bound.
      const double share = std::min(std::floor(row->ratio * 1000.0) / 10.0, 99.9);
      paragraph("", points_summary(report_) + "; the worst has " + number_text(share) +
                        " % of the error that rounding explains: " + row->point);
      return;
    }
    const Strip strip = strip_of(report_);
    if (!strip.empty()) {
      out_ += "\n" + strip_title() + "\n" + strip_text(strip, style_);
    }
    out_ += "\n";
    paragraph("", points_summary(report_));
    worst();
  }

  // What a run over ranks was held to; diff/isolate/rank_tolerance.h wrote it.
  void tolerance_over_ranks() {
    for (const auto& [name, json] : report_.environment) {
      if (name != "tolerance_over_ranks" || json.size() < 2) continue;
      paragraph("tolerance: ", json.substr(1, json.size() - 2));
    }
  }

  std::string strip_title() const {
    std::int64_t steps = 0, ranks = 0;
    for (const PointRow& row : report_.points) {
      steps = std::max(steps, row.step + 1);
      ranks = std::max(ranks, row.rank + 1);
    }
    std::string out = paint_("1", "error over the bound that rounding explains");
    if (steps > 1 || ranks > 1) {
      out += ", worst of " + plural(static_cast<std::size_t>(steps), "step") + " and " +
             plural(static_cast<std::size_t>(ranks), "rank");
    }
    return out;
  }

  void worst() {
    const std::vector<const PointRow*> rows = worst_points(report_, kMostRows);
    if (rows.empty()) return;
    char line[96];
    constexpr const char* kFormat = "  %-10s %10s %9s %9s %8s  ";
    std::snprintf(line, sizeof line, kFormat, "worst", "of bound", "max abs", "rel L2", "ulp");
    out_ += paint_("1", line) + paint_("1", "point") + "\n";
    const std::string capture = capture_of(report_);
    for (const PointRow* row : rows) {
      const std::string status(to_string(row->status));
      const std::string ulp = row->max_ulp > 9'999'999 ? ">9999999" : ulp_text(*row);
      std::snprintf(line, sizeof line, kFormat, status.c_str(), ratio_text(row->ratio).c_str(),
                    number_text(row->max_abs).c_str(), number_text(row->rel_l2).c_str(),
                    ulp.c_str());
      std::string place = plain(row->point);
      std::string suffix;
      if (row->step != 0) suffix += " step " + std::to_string(row->step);
      if (row->rank != 0) suffix += " rank " + std::to_string(row->rank);
      const std::size_t used = std::string_view(line).size() + suffix.size();
      const std::size_t room = width_ > used + 8 ? width_ - used : 8;
      const std::string whole = shortened(place, room) + suffix;
      out_ += line + shortened(whole, width_ - std::string_view(line).size()) + "\n";
      if (is_bad(*row)) out_ += "      view: " + to_string(link_to(capture, *row)) + "\n";
    }
  }

  void blind_spots() {
    if (report_.power) {
      char share[16];
      std::snprintf(share, sizeof share, "%.3g %%", *report_.power * 100);
      paragraph("power: ", std::string("this run would have shown ") + share +
                               " of the faults that apply to this model");
    }
    const std::size_t n = report_.blind_spots.size();
    for (std::size_t i = 0; i < n && i < kMostSpots; ++i) {
      const BlindSpot& spot = report_.blind_spots[i];
      paragraph(i == 0 ? "not shown: " : "           ", spot.id + ": " + spot.why);
    }
    if (n > kMostSpots) out_ += "           " + more_text(n - kMostSpots) + "\n";
  }

  const Report& report_;
  TextStyle style_;
  Paint paint_;
  std::size_t width_;
  std::string out_;
};

}  // namespace

std::string report_text(const Report& report, const std::string& subject, const TextStyle& style) {
  return Writer(report, style).all(subject);
}

}  // namespace ps
