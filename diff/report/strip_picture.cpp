#include "diff/report/strip_picture.h"

#include <algorithm>
#include <cmath>

#include "diff/picture/heatmap.h"

namespace ps {

namespace {

constexpr int kMargin = 14;
constexpr int kLine = 12;
constexpr int kCellHeight = 13;
constexpr int kWidestCell = 18;
constexpr int kRoom = 960;  // for the cells; more layers make them narrower
constexpr std::size_t kMostColumns = 320;

struct Layout {
  int names = 0;  // width of the column of names
  int cell_width = kWidestCell;
  std::size_t columns = 1;
  std::size_t each = 1;  // layers a column
  int width = 0;
  int height = 0;
};

Layout layout_of(const Strip& strip, int words) {
  Layout l;
  std::size_t rows = 0, longest = 5;
  for (const auto* part : {&strip.before, &strip.inside, &strip.after}) {
    rows += part->size();
    for (const StripRow& row : *part) longest = std::max(longest, row.op.size());
  }
  l.names = static_cast<int>(longest) * kAdvance + 8;
  const std::size_t layers = std::max<std::size_t>(strip.layer_numbers.size(), 1);
  l.each = (layers + kMostColumns - 1) / kMostColumns;
  l.columns = (layers + l.each - 1) / l.each;
  l.cell_width = std::clamp(kRoom / static_cast<int>(l.columns), 3, kWidestCell);
  const int cells = static_cast<int>(l.columns) * l.cell_width;
  l.width = 2 * kMargin + std::max({l.names + cells, words, 420});
  l.height = 2 * kMargin + 2 * kLine + 8 + static_cast<int>(rows) * kCellHeight + 3 * kLine + 8 +
             kRatioScaleHeight + 8 + 4 * kLine;
  return l;
}

class Drawing {
 public:
  Drawing(const Strip& strip, const Layout& layout, Theme theme)
      : strip_(strip),
        l_(layout),
        p_(palette_of(theme)),
        theme_(theme),
        image_(layout.width, layout.height, p_.background) {}

  Image draw(const std::string& title, const std::string& subtitle) {
    image_.text(kMargin, y_, title, p_.ink);
    image_.text(kMargin, y_ + kLine, subtitle, p_.faint_ink);
    y_ += 2 * kLine + 8;
    for (const StripRow& row : strip_.before) line(row);
    if (!strip_.inside.empty()) ruler();
    for (const StripRow& row : strip_.inside) line(row);
    if (!strip_.after.empty()) y_ += kLine / 2;
    for (const StripRow& row : strip_.after) line(row);
    y_ += kLine;
    draw_ratio_scale(image_, kMargin, y_, 320, theme_);
    y_ += kRatioScaleHeight + 8;
    legend();
    return image_.cropped(std::min(image_.height(), y_ + kLine + kMargin));
  }

 private:
  void ruler() {
    y_ += kLine / 2;
    image_.text(kMargin, y_, l_.each > 1 ? "layers, folded" : "layer", p_.faint_ink);
    const std::string longest = std::to_string(strip_.layer_numbers.back());
    for (std::size_t i = 0; i < l_.columns; i += stride(text_width(longest) + kAdvance)) {
      const std::string number = std::to_string(strip_.layer_numbers[i * l_.each]);
      const int x = cell_x(i) + (l_.cell_width - text_width(number)) / 2;
      image_.text(x, y_, number, p_.faint_ink);
    }
    y_ += kLine;
  }

  // Every which column has room for a number: 1, 2, 5, 10, 20 ...
  std::size_t stride(int room) const {
    std::size_t decade = 1;
    while (true) {
      for (const std::size_t step : {decade, 2 * decade, 5 * decade}) {
        if (static_cast<int>(step) * l_.cell_width >= room) return step;
      }
      decade *= 10;
    }
  }

  void line(const StripRow& row) {
    image_.text(kMargin, y_ + 3, row.op, p_.ink);
    const std::vector<StripCell> cells = folded(row.cells, l_.columns);
    for (std::size_t i = 0; i < cells.size(); ++i) {
      cell({cell_x(i), y_, l_.cell_width, kCellHeight}, cells[i]);
    }
    y_ += kCellHeight;
  }

  void cell(const Box& box, const StripCell& c) {
    const Color color = color_of(c, theme_);
    const int gap = box.width > 5 ? 1 : 0;
    const Box inner{box.x, box.y, box.width - gap, box.height - 1};
    image_.fill(inner, color);
    if (c.captured && (c.status == PointStatus::kMissing || c.status == PointStatus::kShape)) {
      image_.stripes(inner, p_.faint_ink);
    }
    const char letter = letter_of(c);
    // Dots only make noise where the colour says it all.
    if (box.width >= kAdvance + 2 && letter != ' ' && letter != '.' && letter != ':') {
      const Color ink = c.status == PointStatus::kPropagated ? p_.background : ink_on(color);
      image_.text(box.x + (inner.width - kGlyphWidth) / 2, box.y + 3, std::string(1, letter), ink);
    }
    if (c.first) {
      image_.frame({box.x - 1, box.y - 1, inner.width + 2, inner.height + 2}, p_.ink);
      image_.frame({box.x - 2, box.y - 2, inner.width + 4, inner.height + 4}, p_.ink);
    }
  }

  void legend() {
    int x = kMargin;
    for (const LegendEntry& entry : legend_of(strip_)) {
      if (entry.letter == '.' || entry.letter == ':' || entry.letter == ' ') continue;
      const std::string words = entry.letter == '1'
                                    ? "1-9: " + entry.meaning
                                    : std::string(1, entry.letter) + ": " + entry.meaning;
      if (x > kMargin && x + text_width(words) > image_.width() - kMargin) {
        x = kMargin;
        y_ += kLine;
      }
      image_.text(x, y_, words, p_.faint_ink);
      x += text_width(words) + 3 * kAdvance;
    }
  }

  int cell_x(std::size_t column) const {
    return kMargin + l_.names + static_cast<int>(column) * l_.cell_width;
  }

  const Strip& strip_;
  Layout l_;
  const Palette& p_;
  Theme theme_;
  Image image_;
  int y_ = kMargin;
};

}  // namespace

Color color_of(const StripCell& cell, Theme theme) {
  const Palette& p = palette_of(theme);
  if (!cell.captured) return p.empty;
  switch (cell.status) {
    case PointStatus::kOk:
    case PointStatus::kDiverged: {
      // A cell that diverged is never drawn as one within the bound, whatever its ratio says.
      const bool wrong = cell.status == PointStatus::kDiverged;
      const double least = std::nextafter(1.0, 2.0);
      const double ratio = std::isnan(cell.ratio) ? HUGE_VAL : cell.ratio;
      return color_of_ratio(wrong ? std::max(ratio, least) : std::min(ratio, 1.0), theme);
    }
    case PointStatus::kNonfinite:
      return p.broken;
    case PointStatus::kPropagated:
      return p.propagated;
    case PointStatus::kHealed:
      return p.healed;
    case PointStatus::kShape:
    case PointStatus::kMissing:
      return p.missing;
    case PointStatus::kUnmatched:
    case PointStatus::kIgnored:
      return p.empty;
  }
  return p.empty;
}

Image draw_strip(const Strip& strip, const std::string& title, const std::string& subtitle,
                 Theme theme) {
  const int words = std::min(std::max(text_width(title), text_width(subtitle)), kRoom + 300);
  return Drawing(strip, layout_of(strip, words), theme).draw(title, subtitle);
}

}  // namespace ps
