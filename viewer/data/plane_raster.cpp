#include "viewer/data/plane_raster.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

namespace ps::viewer {

namespace {

std::uint32_t packed(Color c) {
  return 0xff000000u | static_cast<std::uint32_t>(c.b) << 16 |
         static_cast<std::uint32_t>(c.g) << 8 | c.r;
}

struct Range {
  std::int64_t begin, end;
};

// The cells under each pixel of an axis, in whole or in part; none beyond the matrix.
std::vector<Range> cells_under(int pixels, double first, double cell, std::int64_t count) {
  std::vector<Range> out(static_cast<std::size_t>(pixels));
  for (int i = 0; i < pixels; ++i) {
    const double from = first + i / cell, to = first + (i + 1) / cell;
    // A cell that begins within a billionth of the pixel's end belongs to the next one.
    auto begin = static_cast<std::int64_t>(std::floor(from + 1e-9));
    auto end = static_cast<std::int64_t>(std::ceil(to - 1e-9));
    if (cell >= 1) {  // cells larger than pixels: the one under the pixel's centre
      begin = static_cast<std::int64_t>(std::floor(first + (i + 0.5) / cell));
      end = begin + 1;
    }
    begin = std::clamp<std::int64_t>(begin, 0, count);
    end = std::clamp<std::int64_t>(std::max(end, begin + 1), begin, count);
    if (from >= static_cast<double>(count)) begin = end = count;
    out[static_cast<std::size_t>(i)] = {begin, end};
  }
  return out;
}

// For every pixel the worst of the cells under it, by rows.
template <class Paint>
void each_pixel(const Pyramid& pyramid, const Window& window, const Paint& paint) {
  const std::vector<Range> columns =
      cells_under(window.width, window.left, window.cell_width, pyramid.columns());
  const std::vector<Range> rows =
      cells_under(window.height, window.top, window.cell_height, pyramid.rows());
  std::vector<float> line(static_cast<std::size_t>(window.width));
  Range last = {-1, -1};
  for (int y = 0; y < window.height; ++y) {
    const Range row = rows[static_cast<std::size_t>(y)];
    if (row.begin >= row.end) continue;
    if (row.begin != last.begin || row.end != last.end) {
      Range before = {-1, -1};
      for (int x = 0; x < window.width; ++x) {
        const auto i = static_cast<std::size_t>(x);
        const Range column = columns[i];
        if (column.begin >= column.end) {
          line[i] = 0;
        } else if (x > 0 && column.begin == before.begin && column.end == before.end) {
          line[i] = line[i - 1];
        } else {
          line[i] = pyramid.worst(row.begin, row.end, column.begin, column.end);
        }
        before = column;
      }
      last = row;
    }
    for (int x = 0; x < window.width; ++x) {
      const auto i = static_cast<std::size_t>(x);
      if (columns[i].begin < columns[i].end) paint(x, y, line[i]);
    }
  }
}

constexpr std::array<Color, 9> kViridis = {{{68, 1, 84},
                                            {71, 44, 122},
                                            {59, 81, 139},
                                            {44, 113, 142},
                                            {33, 144, 141},
                                            {39, 173, 129},
                                            {92, 200, 99},
                                            {170, 220, 50},
                                            {253, 231, 37}}};

double share_of(double x, double low, double high, bool log) {
  if (log && low > 0 && high > low) {
    return std::clamp(
        (std::log(std::max(x, low)) - std::log(low)) / (std::log(high) - std::log(low)), 0.0, 1.0);
  }
  return high > low ? std::clamp((x - low) / (high - low), 0.0, 1.0) : 0.5;
}

bool is_wrong(float error, const ErrorScale& scale) {
  if (std::isnan(error)) return true;
  return scale.metric == Metric::kRatio ? error > scale.tolerance : error > 0;
}

}  // namespace

Color color_in(ColorMap map, double share) {
  share = std::clamp(share, 0.0, 1.0);
  if (map == ColorMap::kCividis) return cividis(share);
  if (map == ColorMap::kGray) {
    const auto level = static_cast<std::uint8_t>(std::lround(25 + 230 * share));
    return {level, level, level};
  }
  const double at = share * (kViridis.size() - 1);
  const auto i = std::min(static_cast<std::size_t>(at), kViridis.size() - 2);
  const double t = at - static_cast<double>(i);
  const auto mix = [&](std::uint8_t a, std::uint8_t b) {
    return static_cast<std::uint8_t>(std::lround(a + (b - a) * t));
  };
  const Color a = kViridis[i], b = kViridis[i + 1];
  return {mix(a.r, b.r), mix(a.g, b.g), mix(a.b, b.b)};
}

Color color_of_error(float error, const ErrorScale& scale) {
  if (std::isnan(error)) return palette_of(Theme::kDark).broken;
  if (scale.metric == Metric::kRatio) return color_of_ratio(error / scale.tolerance, Theme::kDark);
  if (error <= 0) return {22, 27, 33};
  // Even the smallest error stands out from none.
  constexpr double kLeast = 0.12;
  return color_in(scale.map,
                  kLeast + (1 - kLeast) * share_of(error, scale.low, scale.high, scale.log));
}

Color color_of_value(float value, const ValueScale& scale) {
  if (!std::isfinite(value)) return palette_of(Theme::kDark).broken;
  if (scale.log && scale.high > 0) {
    // By size, both signs alike: masks and probabilities span many powers of ten.
    const double low = std::max(scale.high * 1e-8, 1e-300);
    return color_in(scale.map, share_of(std::fabs(value), low, scale.high, true));
  }
  return color_in(scale.map, share_of(value, scale.low, scale.high, false));
}

void draw_errors(const Pyramid& errors, const Window& window, const ErrorScale& scale,
                 std::span<std::uint32_t> pixels) {
  struct Spot {
    int x, y;
    float error;
  };
  std::vector<Spot> wrong;
  each_pixel(errors, window, [&](int x, int y, float error) {
    const auto i = static_cast<std::size_t>(y) * static_cast<std::size_t>(window.width) +
                   static_cast<std::size_t>(x);
    pixels[i] = packed(color_of_error(error, scale));
    if (is_wrong(error, scale)) wrong.push_back({x, y, error});
  });
  if (window.cell_width >= 3 && window.cell_height >= 3) return;
  // Too many to lose one: where most is wrong, single cells need no larger marks.
  const auto area =
      static_cast<std::size_t>(window.width) * static_cast<std::size_t>(window.height);
  if (wrong.size() > area / 8) return;
  // The worst drawn last, over its neighbours.
  std::stable_sort(wrong.begin(), wrong.end(), [](const Spot& a, const Spot& b) {
    return !std::isnan(a.error) && (std::isnan(b.error) || a.error < b.error);
  });
  for (const Spot& spot : wrong) {
    const std::uint32_t color = packed(color_of_error(spot.error, scale));
    for (int y = std::max(0, spot.y - 1); y <= std::min(window.height - 1, spot.y + 1); ++y) {
      for (int x = std::max(0, spot.x - 1); x <= std::min(window.width - 1, spot.x + 1); ++x) {
        pixels[static_cast<std::size_t>(y) * static_cast<std::size_t>(window.width) +
               static_cast<std::size_t>(x)] = color;
      }
    }
  }
}

void draw_values(const Pyramid& values, const Window& window, const ValueScale& scale,
                 std::span<std::uint32_t> pixels) {
  each_pixel(values, window, [&](int x, int y, float value) {
    pixels[static_cast<std::size_t>(y) * static_cast<std::size_t>(window.width) +
           static_cast<std::size_t>(x)] = packed(color_of_value(value, scale));
  });
}

}  // namespace ps::viewer
