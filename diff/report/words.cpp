#include "diff/report/words.h"

#include <algorithm>
#include <array>

#include "diff/report/baseline.h"
#include "diff/report/strip.h"

namespace ps {

namespace {

// Length of the UTF-8 sequence at i, or 0 when it is none (overlong and surrogate forms included).
std::size_t sequence_at(std::string_view s, std::size_t i) {
  const auto byte = [&](std::size_t k) { return static_cast<unsigned char>(s[k]); };
  const unsigned char lead = byte(i);
  const std::size_t length = lead < 0x80                   ? 1
                             : lead >= 0xc2 && lead < 0xe0 ? 2
                             : lead >= 0xe0 && lead < 0xf0 ? 3
                             : lead >= 0xf0 && lead < 0xf5 ? 4
                                                           : 0;
  if (length == 0 || i + length > s.size()) return 0;
  for (std::size_t k = 1; k < length; ++k) {
    if ((byte(i + k) & 0xc0U) != 0x80U) return 0;
  }
  if (lead == 0xe0 && byte(i + 1) < 0xa0) return 0;
  if (lead == 0xed && byte(i + 1) >= 0xa0) return 0;
  if (lead == 0xf0 && byte(i + 1) < 0x90) return 0;
  if (lead == 0xf4 && byte(i + 1) >= 0x90) return 0;
  return length;
}

bool is_control(std::string_view sequence) {
  const auto first = static_cast<unsigned char>(sequence[0]);
  if (sequence.size() == 1) return first < 0x20 || first == 0x7f;
  // C1 controls, and marks that turn the direction of writing (U+200E..202E, U+2066..2069).
  if (sequence.size() == 2) return first == 0xc2 && static_cast<unsigned char>(sequence[1]) < 0xa0;
  return sequence >= "\xe2\x80\x8e" && sequence <= "\xe2\x80\xae"
             ? true
             : sequence >= "\xe2\x81\xa6" && sequence <= "\xe2\x81\xa9";
}

// The byte where column `columns` begins.
std::size_t byte_of_column(std::string_view words, std::size_t columns) {
  std::size_t i = 0;
  for (; i < words.size() && columns > 0; --columns) {
    ++i;
    while (i < words.size() && (static_cast<unsigned char>(words[i]) & 0xc0U) == 0x80U) ++i;
  }
  return i;
}

}  // namespace

std::string plural(std::size_t n, const std::string& word) {
  return std::to_string(n) + " " + word + (n == 1 ? "" : "s");
}

std::size_t count_of(const Report& report, Severity severity) {
  return static_cast<std::size_t>(
      std::count_if(report.findings.begin(), report.findings.end(),
                    [severity](const Finding& f) { return f.severity == severity; }));
}

std::string headline(const Report& report) {
  const std::size_t errors = count_of(report, Severity::kError);
  const std::size_t warnings = count_of(report, Severity::kWarning);
  std::string out;
  if (report.verdict == Verdict::kInvalid) {
    out = "these runs cannot be compared";
  } else if (exit_code(report) == 0) {
    out = report.baseline && report.baseline->accepted > 0 ? "nothing new found wrong"
                                                           : "nothing wrong found";
    if (report.not_judged) out += " in what was looked at";
  } else {
    if (report.verdict == Verdict::kDiverged) out = "diverged";
    if (errors > 0) out += (out.empty() ? "" : ", ") + plural(errors, "error");
  }
  if (warnings > 0) out += ", " + plural(warnings, "warning");
  return out;
}

const Finding* cause_of(const Report& report) {
  if (!report.first_divergence) return nullptr;
  const FirstDivergence& d = *report.first_divergence;
  const auto it = std::find_if(report.findings.begin(), report.findings.end(), [&](auto& f) {
    return (f.severity == Severity::kError || is_accepted(f)) && f.point == d.point &&
           f.step == d.step && f.rank == d.rank;
  });
  return it == report.findings.end() ? nullptr : &*it;
}

std::string_view meaning_of(Confidence confidence) {
  switch (confidence) {
    case Confidence::kExact:
      return "exact: replaying it explains the candidate down to rounding";
    case Confidence::kConsistent:
      return "consistent: the signature fits, it was not replayed";
    case Confidence::kUnnamed:
      return "unnamed: the place is certain, no known fault explains it";
  }
  return "";
}

std::string place_text(const Finding& f) {
  std::string out = f.point;
  if (!f.where.empty()) out += (out.empty() ? "" : "  ") + f.where;
  if (f.step == 0 && f.rank == 0) return out;
  out += out.empty() ? "" : "  ";
  return out + "(step " + std::to_string(f.step) + ", rank " + std::to_string(f.rank) + ")";
}

std::string place_text(const FirstDivergence& d) {
  std::string out = d.point;
  if (!d.where.empty()) out += "  " + d.where;
  return out + "  (step " + std::to_string(d.step) + ", rank " + std::to_string(d.rank) + ")";
}

std::string evidence_text(const Finding& f) {
  std::string out;
  for (const auto& [name, json] : f.evidence) {
    if (!out.empty()) out += ", ";
    const bool quoted = json.size() >= 2 && json.front() == '"' && json.back() == '"';
    const bool simple = quoted && json.find('\\') == std::string::npos;
    out += name + " = " + (simple ? json.substr(1, json.size() - 2) : json);
  }
  return out;
}

std::string points_summary(const Report& report) {
  constexpr std::array kOrder = {
      PointStatus::kOk,     PointStatus::kDiverged,  PointStatus::kNonfinite,
      PointStatus::kShape,  PointStatus::kMissing,   PointStatus::kPropagated,
      PointStatus::kHealed, PointStatus::kUnmatched, PointStatus::kIgnored};
  std::string out = plural(report.points.size(), "point") + ": ";
  const char* comma = "";
  for (const PointStatus status : kOrder) {
    const std::size_t n = count_of(report, status);
    if (n == 0) continue;
    out += comma + std::to_string(n) + " " + std::string(to_string(status));
    comma = ", ";
  }
  return out;
}

std::string not_judged_text(const NotJudged& n) {
  std::string out = n.rows.empty() ? "nothing" : "";
  if (!n.points.empty()) {
    out = plural(n.points.size(), "point") + (n.layers.empty() ? "" : " of " + n.layers);
  }
  if (!n.rows.empty()) out += (out.empty() ? "" : "; of the others ") + n.rows;
  return out + " (the sample " + n.sample + ")";
}

std::vector<std::string> baseline_lines(const BaselineUse& use, std::size_t most_gone) {
  std::vector<std::string> out;
  out.push_back("baseline " + use.file + ": " +
                plural(static_cast<std::size_t>(use.accepted), "known finding") + " accepted, " +
                std::to_string(use.gone.size()) + " gone");
  for (const std::string& point : use.new_points) out.push_back("new: " + point);
  for (std::size_t i = 0; i < use.gone.size() && i < most_gone; ++i) {
    out.push_back("gone: " + use.gone[i]);
  }
  if (use.gone.size() > most_gone) out.push_back(more_text(use.gone.size() - most_gone));
  return out;
}

std::string more_text(std::size_t n) {
  return "... and " + std::to_string(n) + " more (--json shows all)";
}

std::string plain(std::string_view words) {
  std::string out;
  for (std::size_t i = 0; i < words.size();) {
    const std::size_t length = sequence_at(words, i);
    if (length == 0) {
      out += '?';
      ++i;
      continue;
    }
    const std::string_view sequence = words.substr(i, length);
    if (is_control(sequence)) {
      out += ' ';
    } else {
      out += sequence;
    }
    i += length;
  }
  return out;
}

std::size_t columns_of(std::string_view words) {
  return static_cast<std::size_t>(std::count_if(words.begin(), words.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0U) != 0x80U;
  }));
}

std::vector<std::string> wrapped(std::string_view words, std::size_t width) {
  width = std::max<std::size_t>(width, 8);
  std::vector<std::string> lines;
  while (true) {
    const std::size_t end = words.find('\n');
    std::string line = plain(words.substr(0, end));
    while (columns_of(line) > width) {
      const std::size_t most = byte_of_column(line, width);
      std::size_t cut = line.rfind(' ', most);
      if (cut == std::string::npos || cut == 0) cut = most;
      lines.push_back(line.substr(0, cut));
      line.erase(0, line[cut] == ' ' ? cut + 1 : cut);
    }
    lines.push_back(std::move(line));
    if (end == std::string_view::npos) return lines;
    words.remove_prefix(end + 1);
  }
}

std::string shortened(const std::string& name, std::size_t width) {
  const std::size_t columns = columns_of(name);
  if (columns <= width || width < 8) return name;
  const std::size_t left = (width - 3) / 2, right = width - 3 - left;
  return name.substr(0, byte_of_column(name, left)) + "..." +
         name.substr(byte_of_column(name, columns - right));
}

}  // namespace ps
