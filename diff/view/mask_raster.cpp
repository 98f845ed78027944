#include "diff/view/mask_raster.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "diff/view/row_sum.h"

namespace ps::view {

namespace {

constexpr std::uint8_t kLeak = 1, kHidden = 2;

// The rows of the plane that a row of pixels shows: [first, last), the first and the last of them
// perhaps in part.
struct Rows {
  std::int64_t first = 0, last = 0;
  double first_weight = 1, last_weight = 1;  // of rows `first` and `last - 1`, where there are two
  double total = 0;
  bool operator==(const Rows&) const = default;
};

Rows rows_of(const Viewport& v, int y, std::int64_t rows) {
  Rows r;
  if (v.zoom_y >= 1) {
    const auto q = static_cast<std::int64_t>(std::floor(v.y0 + (y + 0.5) / v.zoom_y));
    if (q < 0 || q >= rows) return r;
    return {q, q + 1, 1, 1, 1};
  }
  const double from = std::max(0.0, v.y0 + y / v.zoom_y);
  const double to = std::min(static_cast<double>(rows), v.y0 + (y + 1) / v.zoom_y);
  if (to <= from) return r;
  r.first = static_cast<std::int64_t>(std::floor(from));
  r.last = static_cast<std::int64_t>(std::ceil(to));
  r.total = to - from;
  if (r.last - r.first == 1) {
    r.first_weight = r.last_weight = r.total;
  } else {
    r.first_weight = static_cast<double>(r.first + 1) - from;
    r.last_weight = to - static_cast<double>(r.last - 1);
  }
  return r;
}

// Calls use(band, first, last) for the parts of bands that lie in rows [first, last). `hint` is the
// band where the last call ended.
template <class Use>
void each_band(const mask::Bands& bands, std::int64_t first, std::int64_t last, std::size_t& hint,
               const Use& use) {
  first = std::max(first, bands.begin());
  last = std::min(last, bands.end());
  if (first >= last) return;
  if (hint >= bands.size() || bands[hint].begin > first) hint = bands.band_of(first);
  while (bands[hint].end <= first) ++hint;
  for (std::size_t n = hint; n < bands.size(); ++n) {
    const mask::Bands::Band band = bands[n];
    if (band.begin >= last) break;
    hint = n;
    use(band, std::max(first, band.begin), std::min(last, band.end));
  }
}

void sum_rows(const mask::Bands& bands, const Rows& rows, std::size_t& hint, RowSum& sum) {
  each_band(bands, rows.first, rows.last, hint,
            [&](const mask::Bands::Band& band, std::int64_t a, std::int64_t b) {
              if (a == rows.first) {
                sum.add(band, a, a + 1, rows.first_weight);
                ++a;
              }
              const bool ends = b == rows.last && a < b;
              if (ends) --b;
              if (a < b) sum.add(band, a, b, 1);
              if (ends) sum.add(band, b, b + 1, rows.last_weight);
            });
}

// The pixels that show any of the columns [lo, hi); empty where none is on screen.
std::pair<int, int> pixels_of(const Viewport& v, std::int64_t lo, std::int64_t hi) {
  const double a = (static_cast<double>(lo) - v.x0) * v.zoom_x;
  const double b = (static_cast<double>(hi) - v.x0) * v.zoom_x;
  if (b <= 0 || a >= v.width) return {0, 0};
  const bool in = v.zoom_x >= 1;
  const auto pixel = [&](double x, bool end) {
    return static_cast<int>(std::clamp(in    ? std::ceil(x - 0.5)
                                       : end ? std::ceil(x)
                                             : std::floor(x),
                                       0.0, static_cast<double>(v.width)));
  };
  int from = pixel(a, false), to = pixel(b, true);
  if (from >= to) return {0, 0};
  if (v.zoom_x < 3) {
    from = std::max(0, from - 1);
    to = std::min(v.width, to + 1);
  }
  return {from, to};
}

class Flags {
 public:
  Flags(const Viewport& v, std::int64_t rows) : v_(v), rows_(rows) {}

  void mark(const mask::Bands& errors, std::uint8_t flag) {
    if (errors.empty()) return;
    if (cells_.empty()) {
      cells_.resize(static_cast<std::size_t>(v_.width) * static_cast<std::size_t>(v_.height));
      any_.resize(static_cast<std::size_t>(v_.height));
    }
    std::size_t hint = 0;
    for (int y = 0; y < v_.height; ++y) {
      const Rows rows = rows_of(v_, y, rows_);
      each_band(errors, rows.first, rows.last, hint,
                [&](const mask::Bands::Band& band, std::int64_t a, std::int64_t b) {
                  // Ends move by at most one a row, so that neighbouring rows' runs touch.
                  for (const mask::Run& run : band.runs) {
                    const auto [from, to] = pixels_of(v_, std::min(run.lo.at(a), run.lo.at(b - 1)),
                                                      std::max(run.hi.at(a), run.hi.at(b - 1)));
                    if (from >= to) continue;
                    std::uint8_t* row = row_at(y);
                    for (int x = from; x < to; ++x) row[x] |= flag;
                    any_[static_cast<std::size_t>(y)] = true;
                  }
                });
    }
  }

  void paint(const MaskColors& colors, std::vector<std::uint32_t>& out) {
    if (cells_.empty()) return;
    const int grow = v_.zoom_y < 3 ? 1 : 0;
    std::vector<std::uint8_t> near(static_cast<std::size_t>(v_.width));
    for (int y = 0; y < v_.height; ++y) {
      bool any = false;
      for (int n = std::max(0, y - grow); n <= std::min(v_.height - 1, y + grow); ++n) {
        if (!any_[static_cast<std::size_t>(n)]) continue;
        if (!any) std::fill(near.begin(), near.end(), std::uint8_t{0});
        any = true;
        const std::uint8_t* row = row_at(n);
        for (std::size_t x = 0; x < near.size(); ++x) near[x] |= row[x];
      }
      if (!any) continue;
      std::uint32_t* pixels =
          out.data() + static_cast<std::size_t>(y) * static_cast<std::size_t>(v_.width);
      for (int x = 0; x < v_.width; ++x) {
        const std::uint8_t flag = near[static_cast<std::size_t>(x)];
        if (flag == 0) continue;
        const bool leak = flag == kLeak || (flag == (kLeak | kHidden) && x % 2 == 0);
        pixels[x] = leak ? colors.leak : (x + y) % 6 < 2 ? colors.hidden_stripe : colors.hidden;
      }
    }
  }

 private:
  std::uint8_t* row_at(int y) {
    return cells_.data() + static_cast<std::size_t>(y) * static_cast<std::size_t>(v_.width);
  }
  const Viewport& v_;
  std::int64_t rows_;
  std::vector<std::uint8_t> cells_;
  std::vector<bool> any_;  // a row of pixels with a flag
};

// How much of each pixel's width lies in the plane: 0 left of `from`, 1 in [inner_from, inner_to),
// in between a share.
std::vector<double> inside_shares(const Viewport& v, std::int64_t columns) {
  std::vector<double> out(static_cast<std::size_t>(v.width));
  for (int x = 0; x < v.width; ++x) {
    double& share = out[static_cast<std::size_t>(x)];
    if (v.zoom_x >= 1) {
      const double k = std::floor(v.x0 + (x + 0.5) / v.zoom_x);
      share = k >= 0 && k < static_cast<double>(columns) ? 1 : 0;
      continue;
    }
    const double a = std::max(static_cast<double>(x), -v.x0 * v.zoom_x);
    const double b =
        std::min(static_cast<double>(x + 1), (static_cast<double>(columns) - v.x0) * v.zoom_x);
    share = std::max(0.0, b - a);
  }
  return out;
}

std::array<std::uint32_t, 256> ramp(std::array<int, 3> from, std::array<int, 3> to) {
  std::array<std::uint32_t, 256> out{};
  for (int i = 0; i < 256; ++i) {
    const auto mix = [&](std::size_t c) {
      return static_cast<std::uint8_t>((from[c] * (255 - i) + to[c] * i + 127) / 255);
    };
    out[static_cast<std::size_t>(i)] = packed(mix(0), mix(1), mix(2));
  }
  return out;
}

}  // namespace

std::uint32_t packed(std::uint8_t r, std::uint8_t g, std::uint8_t b, std::uint8_t a) {
  return r | std::uint32_t{g} << 8 | std::uint32_t{b} << 16 | std::uint32_t{a} << 24;
}

MaskColors mask_colors(bool dark) {
  MaskColors c;
  c.density = dark ? ramp({38, 41, 48}, {126, 148, 184}) : ramp({236, 237, 240}, {84, 104, 140});
  c.outside = dark ? packed(22, 24, 28) : packed(255, 255, 255);
  c.leak = packed(240, 72, 32);
  c.hidden = packed(255, 224, 64);
  c.hidden_stripe = packed(176, 128, 0);
  return c;
}

MaskColors algebra_colors(bool dark) {
  MaskColors c = mask_colors(dark);
  c.density = dark ? ramp({38, 41, 48}, {232, 196, 92}) : ramp({236, 237, 240}, {148, 108, 8});
  return c;
}

Viewport fitted(std::int64_t rows, std::int64_t columns, int width, int height, double least) {
  Viewport v;
  v.width = width;
  v.height = height;
  const auto r = static_cast<double>(std::max<std::int64_t>(rows, 1));
  const auto c = static_cast<double>(std::max<std::int64_t>(columns, 1));
  const double zoom = std::min(width / c, height / r);
  v.zoom_x = std::min(std::max(zoom, least / c), width / c);
  v.zoom_y = std::min(std::max(zoom, least / r), height / r);
  return v;
}

void raster_mask(const MaskLayers& layers, const Viewport& view, const MaskColors& colors,
                 std::vector<std::uint32_t>& out) {
  const auto width = static_cast<std::size_t>(view.width);
  out.resize(width * static_cast<std::size_t>(view.height));
  const std::int64_t rows = layers.base->end();
  const std::vector<double> inside = inside_shares(view, layers.columns);
  const auto within = [](double share) { return share > 0; };
  const auto first =
      static_cast<int>(std::find_if(inside.begin(), inside.end(), within) - inside.begin());
  const auto last =
      static_cast<int>(inside.rend() - std::find_if(inside.rbegin(), inside.rend(), within));
  RowSum sum(view.x0, view.zoom_x, view.width);
  std::size_t hint = 0;
  Rows before;
  for (int y = 0; y < view.height; ++y) {
    std::uint32_t* pixels = out.data() + static_cast<std::size_t>(y) * width;
    const Rows r = rows_of(view, y, rows);
    if (r.total <= 0 || first >= last) {
      std::fill(pixels, pixels + width, colors.outside);
      continue;
    }
    if (y > 0 && r == before) {
      std::memcpy(pixels, pixels - width, width * sizeof *pixels);
      continue;
    }
    before = r;
    sum.clear();
    sum_rows(*layers.base, r, hint, sum);
    const auto color = [&](double area, double share) {
      const double density = std::clamp(area / (r.total * share), 0.0, 1.0);
      return colors.density[static_cast<std::size_t>(density * 255 + 0.5)];
    };
    std::fill(pixels, pixels + first, colors.outside);
    std::fill(pixels + last, pixels + width, colors.outside);
    sum.spans([&](int from, int to, double area) {
      from = std::max(from, first);
      to = std::min(to, last);
      if (from >= to) return;
      std::fill(pixels + from, pixels + to, color(area, 1));
      if (from == first) pixels[first] = color(area, inside[static_cast<std::size_t>(first)]);
      if (to == last) pixels[last - 1] = color(area, inside[static_cast<std::size_t>(last - 1)]);
    });
  }
  Flags flags(view, rows);
  if (layers.leak != nullptr) flags.mark(*layers.leak, kLeak);
  if (layers.hidden != nullptr) flags.mark(*layers.hidden, kHidden);
  flags.paint(colors, out);
}

std::vector<double> row_margin(const mask::Bands& errors, std::int64_t columns,
                               const Viewport& view) {
  std::vector<double> out(static_cast<std::size_t>(view.height));
  RowSum sum(0, 1.0 / static_cast<double>(std::max<std::int64_t>(columns, 2)), 1);
  std::size_t hint = 0;
  for (int y = 0; y < view.height; ++y) {
    Rows r = rows_of(view, y, errors.end());
    if (r.total <= 0) continue;
    r.first_weight = r.last_weight = 1;
    sum.clear();
    sum_rows(errors, r, hint, sum);
    sum.spans([&](int, int, double area) {
      out[static_cast<std::size_t>(y)] =
          std::round(area * static_cast<double>(std::max<std::int64_t>(columns, 2)));
    });
  }
  return out;
}

std::vector<double> column_margin(const mask::Bands& errors, const Viewport& view) {
  std::vector<double> out(static_cast<std::size_t>(view.width));
  // Zoomed out, in fractions of pixels: the area covered, times the columns a pixel holds.
  RowSum sum(view.x0, view.zoom_x, view.width);
  for (std::size_t n = 0; n < errors.size(); ++n)
    sum.add(errors[n], errors[n].begin, errors[n].end, 1);
  const double cells = view.zoom_x >= 1 ? 1 : 1 / view.zoom_x;
  sum.spans([&](int from, int to, double area) {
    for (int x = from; x < to; ++x) {
      out[static_cast<std::size_t>(x)] = area < 1e-9 ? 0 : area * cells;
    }
  });
  return out;
}

}  // namespace ps::view
