#include <algorithm>

#include "diff/report/text.h"
#include "diff/report/words.h"

namespace ps {

namespace {

const char* color_of(const StripCell& cell) {
  if (cell.first) return "41;97;1";
  switch (cell.status) {
    case PointStatus::kDiverged:
      return "31;1";
    case PointStatus::kNonfinite:
    case PointStatus::kShape:
    case PointStatus::kMissing:
      return "35;1";
    case PointStatus::kPropagated:
      return "33";
    case PointStatus::kHealed:
      return "36";
    case PointStatus::kOk:
    case PointStatus::kUnmatched:
    case PointStatus::kIgnored:
      return cell.ratio > 0.5 ? "34" : "2";
  }
  return "0";
}

bool has_first(const std::vector<StripCell>& cells) {
  return std::any_of(cells.begin(), cells.end(), [](const StripCell& c) { return c.first; });
}

class Drawing {
 public:
  Drawing(const Strip& strip, const TextStyle& style) : strip_(strip), paint_{style.color} {
    for (const auto* part : {&strip.before, &strip.inside, &strip.after}) {
      for (const StripRow& row : *part) names_ = std::max(names_, row.op.size());
    }
    names_ = std::min<std::size_t>(names_, 34);
    const auto width = static_cast<std::size_t>(std::max(style.width, 80));
    room_ = width - kIndent - names_ - 2 - kFirst.size();
    each_ = (strip.layer_numbers.size() + room_ - 1) / std::max<std::size_t>(room_, 1);
  }

  std::string draw() const {
    std::string out;
    for (const StripRow& row : strip_.before) out += line(row);
    if (!strip_.inside.empty()) out += ruler();
    for (const StripRow& row : strip_.inside) out += line(row);
    if (!strip_.inside.empty() && !strip_.after.empty()) out += "\n";
    for (const StripRow& row : strip_.after) out += line(row);
    return out;
  }

 private:
  static constexpr std::size_t kIndent = 2;
  static constexpr std::string_view kFirst = "  <- first";

  std::string name(const std::string& words) const {
    std::string out = std::string(kIndent, ' ') + shortened(words, names_);
    out.resize(kIndent + names_ + 2, ' ');
    return out;
  }

  std::string line(const StripRow& row) const {
    std::string out = name(row.op), run;
    const std::vector<StripCell> cells = folded(row.cells, room_);
    for (std::size_t i = 0; i < cells.size(); ++i) {
      run += letter_of(cells[i]);
      const bool same = i + 1 < cells.size() && std::string_view(color_of(cells[i])) ==
                                                    std::string_view(color_of(cells[i + 1]));
      if (same) continue;
      out += paint_(color_of(cells[i]), run);
      run.clear();
    }
    if (has_first(row.cells)) out += paint_("31;1", std::string(kFirst));
    while (out.ends_with(' ')) out.pop_back();
    return out + "\n";
  }

  // The layer under every tenth column, and the last digit of every layer when each has a column.
  std::string ruler() const {
    const std::vector<std::int64_t>& layers = strip_.layer_numbers;
    std::string tens, ones;
    for (std::size_t i = 0; i < layers.size(); i += std::max<std::size_t>(each_, 1)) {
      const bool mark = ones.size() % 10 == 0 && tens.size() <= ones.size();
      if (mark) tens += std::to_string(layers[i]);
      if (tens.size() <= ones.size()) tens += ' ';
      ones += each_ > 1 ? '-' : static_cast<char>('0' + layers[i] % 10);
    }
    while (tens.ends_with(' ')) tens.pop_back();
    const std::string label = each_ > 1 ? "layer, " + std::to_string(each_) + " a column" : "layer";
    const bool same = tens == ones;  // fewer than ten layers
    std::string out = "\n";
    if (!same && layers.size() > 1) {
      out += name(label) + tens + "\n" + name("") + paint_("2", ones) + "\n";
    } else {
      out += name(label) + ones + "\n";
    }
    return out;
  }

  const Strip& strip_;
  Paint paint_;
  std::size_t names_ = 5;
  std::size_t room_ = 1;
  std::size_t each_ = 1;  // layers a column
};

}  // namespace

std::string strip_text(const Strip& strip, const TextStyle& style) {
  std::string out = Drawing(strip, style).draw();
  // Entries are not broken over lines.
  std::string legend;
  const auto flush = [&] {
    if (!legend.empty()) out += "  " + Paint{style.color}("2", legend) + "\n";
    legend.clear();
  };
  for (const LegendEntry& entry : legend_of(strip)) {
    const std::string letter = entry.letter == ' '   ? "blank"
                               : entry.letter == '1' ? "1-9"
                                                     : std::string(1, entry.letter);
    const std::string words = letter + "  " + entry.meaning;
    if (legend.size() + words.size() + 6 > static_cast<std::size_t>(style.width)) flush();
    legend += (legend.empty() ? "" : "    ") + words;
  }
  flush();
  return out;
}

}  // namespace ps
