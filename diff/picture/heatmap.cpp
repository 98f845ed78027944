#include "diff/picture/heatmap.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>

namespace ps {

namespace {

constexpr int kMargin = 12;
constexpr int kLine = 12;     // of text
constexpr int kHeader = 32;   // title and subtitle
constexpr int kNumbers = 18;  // left of the cells
constexpr int kGap = 4;       // between the cells and the worst of rows and columns
constexpr int kBar = 8;       // how thick those are
constexpr int kWidest = 768;
constexpr int kHighest = 384;
constexpr int kSmallest = 240;  // the scale needs that much
constexpr int kLargestCell = 24;

// NaN, a broken class, is worse than any number.
float worse(float a, float b) {
  if (std::isnan(a) || std::isnan(b)) return std::numeric_limits<float>::quiet_NaN();
  return std::max(a, b);
}
bool over(float ratio) { return std::isnan(ratio) || ratio > 1.0F; }

int cell_size(std::int64_t cells, int room) {
  if (cells <= 0) return 1;
  return static_cast<int>(std::clamp<std::int64_t>(room / cells, 1, kLargestCell));
}

float at(const ErrorGrid& grid, std::int64_t row, std::int64_t column) {
  return grid.worst[static_cast<std::size_t>(row * grid.columns + column)];
}

Box cell_box(const HeatmapLayout& l, std::int64_t row, std::int64_t column) {
  return {l.cells.x + static_cast<int>(column) * l.cell_width,
          l.cells.y + static_cast<int>(row) * l.cell_height, l.cell_width, l.cell_height};
}

// At least three pixels wide and high, and still inside `limits`.
Box enlarged(Box box, const Box& limits) {
  const auto grow = [](int& from, int& size, int low, int limit) {
    const int want = std::min(3, limit);
    if (size >= want) return;
    from = std::clamp(from - (want - size) / 2, low, low + limit - want);
    size = want;
  };
  grow(box.x, box.width, limits.x, limits.width);
  grow(box.y, box.height, limits.y, limits.height);
  return box;
}

void draw_cells(Image& image, const ErrorGrid& grid, const HeatmapLayout& l, Theme theme) {
  // Those over the bound are drawn last, the worst on top, so that none hides under a good one.
  struct Over {
    float ratio;
    Box box;
  };
  std::vector<Over> overs;
  for (std::int64_t row = 0; row < grid.rows; ++row) {
    for (std::int64_t column = 0; column < grid.columns; ++column) {
      const float ratio = at(grid, row, column);
      const Box box = cell_box(l, row, column);
      image.fill(box, color_of_ratio(static_cast<double>(ratio), theme));
      if (over(ratio)) overs.push_back({ratio, enlarged(box, l.cells)});
    }
  }
  std::stable_sort(overs.begin(), overs.end(), [](const Over& a, const Over& b) {
    return !std::isnan(a.ratio) && (std::isnan(b.ratio) || a.ratio < b.ratio);
  });
  for (const Over& o : overs)
    image.fill(o.box, color_of_ratio(static_cast<double>(o.ratio), theme));
}

void draw_worst(Image& image, const ErrorGrid& grid, const HeatmapLayout& l, Theme theme) {
  for (const bool over_bound : {false, true}) {  // again, so that good ones hide no wrong one
    for (std::int64_t row = 0; row < grid.rows; ++row) {
      float worst = 0;
      for (std::int64_t c = 0; c < grid.columns; ++c) worst = worse(worst, at(grid, row, c));
      if (over(worst) != over_bound) continue;
      Box box = cell_box(l, row, 0);
      box.x = l.row_worst.x;
      box.width = kBar;
      if (over_bound) box = enlarged(box, l.row_worst);
      image.fill(box, color_of_ratio(static_cast<double>(worst), theme));
    }
    for (std::int64_t column = 0; column < grid.columns; ++column) {
      float worst = 0;
      for (std::int64_t r = 0; r < grid.rows; ++r) worst = worse(worst, at(grid, r, column));
      if (over(worst) != over_bound) continue;
      Box box = cell_box(l, 0, column);
      box.y = l.column_worst.y;
      box.height = kBar;
      if (over_bound) box = enlarged(box, l.column_worst);
      image.fill(box, color_of_ratio(static_cast<double>(worst), theme));
    }
  }
}

// Where each part of the rows begins, and its number where there is room.
void draw_groups(Image& image, const HeatmapLayout& l, std::int64_t groups, const Palette& p) {
  if (groups < 2 || groups > l.cells.height / 2) return;
  int free_from = 0;
  for (std::int64_t g = 0; g < groups; ++g) {
    const int y = l.cells.y + static_cast<int>(g * l.cells.height / groups);
    image.fill({l.cells.x - 4, y, 3, 1}, p.ink);
    const std::string number = std::to_string(g);
    if (y < free_from || text_width(number) > kNumbers - 2) continue;
    image.text(l.cells.x - 6 - text_width(number), y, number, p.faint_ink);
    free_from = y + kLine;
  }
}

std::string fitting(const std::string& words, int width) {
  const auto most = static_cast<std::size_t>((std::max(width, 0) + 1) / kAdvance);
  if (words.size() <= most) return words;
  return most < 4 ? words.substr(0, most) : words.substr(0, most - 3) + "...";
}

}  // namespace

HeatmapLayout heatmap_layout(const ErrorGrid& grid) {
  HeatmapLayout l;
  l.cell_width = cell_size(grid.columns, kWidest);
  l.cell_height = cell_size(grid.rows, kHighest);
  l.cells = {kMargin + kNumbers, kMargin + kHeader + kLine,
             static_cast<int>(grid.columns) * l.cell_width,
             static_cast<int>(grid.rows) * l.cell_height};
  l.row_worst = {l.cells.x + l.cells.width + kGap, l.cells.y, kBar, l.cells.height};
  l.column_worst = {l.cells.x, l.cells.y + l.cells.height + kGap, l.cells.width, kBar};
  return l;
}

Image draw_heatmap(const ErrorGrid& grid, const HeatmapLabels& labels, Theme theme) {
  const Palette& p = palette_of(theme);
  const HeatmapLayout l = heatmap_layout(grid);
  const int longest = std::max(text_width(labels.title), text_width(labels.subtitle));
  const int inner = std::max(
      {l.row_worst.x + kBar - kMargin, kSmallest, std::min(longest, kWidest + kGap + kBar)});
  const int bottom = l.column_worst.y + kBar;
  Image image(inner + 2 * kMargin, bottom + kLine + 2 * kMargin + kRatioScaleHeight, p.background);
  image.text(kMargin, kMargin, fitting(labels.title, inner), p.ink);
  image.text(kMargin, kMargin + kLine, fitting(labels.subtitle, inner), p.faint_ink);
  image.text(kMargin, l.cells.y - kLine, fitting("down: " + labels.rows, inner), p.faint_ink);
  draw_cells(image, grid, l, theme);
  draw_worst(image, grid, l, theme);
  if (!grid.worst.empty()) {
    draw_groups(image, l, labels.row_groups, p);
    image.frame({l.cells.x - 1, l.cells.y - 1, l.cells.width + 2, l.cells.height + 2}, p.grid);
  }
  image.text(kMargin, bottom + 4, fitting("across: " + labels.columns, inner), p.faint_ink);
  draw_ratio_scale(image, kMargin, bottom + kLine + kMargin, std::min(inner, 320), theme);
  return image;
}

void draw_ratio_scale(Image& image, int x, int y, int width, Theme theme) {
  const Palette& p = palette_of(theme);
  constexpr double kLow = -3, kHigh = 6;
  constexpr int kThick = 8;
  for (int i = 0; i < width; ++i) {
    const double decade = kLow + (kHigh - kLow) * (i + 0.5) / width;
    image.fill({x + i, y, 1, kThick}, color_of_ratio(std::pow(10.0, decade), theme));
  }
  struct Tick {
    double decade;
    std::string_view words;
  };
  constexpr std::array kTicks = {Tick{-3, "<=.001"}, Tick{0, "1 = bound"}, Tick{3, "1000"},
                                 Tick{6, "1e6"}};
  for (const Tick& tick : kTicks) {
    const int at_x = x + static_cast<int>((tick.decade - kLow) / (kHigh - kLow) * width);
    const int words = text_width(tick.words);
    const int left = std::clamp(at_x - words / 2, x, x + width - words);
    image.fill({std::min(at_x, x + width - 1), y, 1, kThick + 3}, p.ink);
    image.text(left, y + kThick + 5, tick.words, p.ink);
  }
}

}  // namespace ps
