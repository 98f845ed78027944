// The raster against brute force over cells, and the promise that one wrong cell is never lost.
#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "core/rng.h"
#include "diff/mask/mask.h"
#include "diff/mask/text.h"
#include "diff/view/mask_errors.h"
#include "diff/view/mask_raster.h"
#include "tests/support/random_mask.h"

namespace ps::view {
namespace {

using mask::Bands;
using mask::Mask;
using mask::SetOp;

Mask mask_of(const std::string& text) {
  const auto program = mask::parse_text(text, "test");
  EXPECT_TRUE(program.ok()) << program.error().line();
  auto out = mask::evaluate(*program);
  EXPECT_TRUE(out.ok());
  return std::move(out).value();
}

Bands one_cell(std::int64_t rows, std::int64_t q, std::int64_t k) {
  Bands out(0);
  out.append(q, {});
  const mask::Run run{mask::Edge(k, 0), mask::Edge(k + 1, 0)};
  out.append(q + 1, std::span(&run, 1));
  out.append(rows, {});
  return out;
}

// A stream of small numbers.
class Dice {
 public:
  explicit Dice(std::uint64_t seed) : seed_(seed) {}
  std::int64_t below(std::int64_t n) {
    seed_ = seed_ * 6364136223846793005ULL + 1442695040888963407ULL;
    return static_cast<std::int64_t>((seed_ >> 33) % static_cast<std::uint64_t>(n));
  }
  double real(double lo, double hi) {
    return lo + (hi - lo) * static_cast<double>(below(1 << 30)) / (1 << 30);
  }

 private:
  std::uint64_t seed_;
};

// The part of [a, b) that cell `i` covers; zoomed in, all or nothing by the pixel's centre.
double share(double a, double b, double zoom, std::int64_t i) {
  const auto x = static_cast<double>(i);
  if (zoom >= 1) return std::floor((a + b) / 2) == x ? 1 : 0;
  return std::max(0.0, std::min(b, x + 1) - std::max(a, x));
}

bool is_error(const MaskColors& c, std::uint32_t pixel) {
  return pixel == c.leak || pixel == c.hidden || pixel == c.hidden_stripe;
}

TEST(MaskRaster, DensityAndErrorsAreThoseOfTheCells) {
  Dice dice(7);
  const MaskColors colors = mask_colors(true);
  const std::int64_t rows = 83, columns = 131;
  for (int round = 0; round < 120; ++round) {
    const std::string size = "Q=83 KV=131 q_offset=" + std::to_string(dice.below(70)) + "; ";
    const std::string window = "window(" + std::to_string(dice.below(90)) + ", 3)";

    const std::string body = round % 3 == 0   ? "causal"
                             : round % 3 == 1 ? "causal & " + window
                                              : window + " | kv_range(0, 5)";
    const Mask mask = mask_of(size + body);
    const Bands& base = mask.plane(0, 0);
    Bands leak = mask::filled(0, rows, 0, 0), hidden = leak;
    for (std::int64_t n = dice.below(5); n-- > 0;) {
      const Bands cell = one_cell(rows, dice.below(rows), dice.below(columns));
      Bands& side = dice.below(2) == 0 ? leak : hidden;
      side = mask::combine(side, cell, SetOp::kOr);
    }
    Viewport v;
    v.width = 61;
    v.height = 47;
    v.zoom_x = std::pow(2.0, dice.real(-3, 4));
    v.zoom_y = dice.below(2) == 0 ? v.zoom_x : std::pow(2.0, dice.real(-3, 4));
    v.x0 = dice.real(-20, 120);
    v.y0 = dice.real(-20, 80);
    std::vector<std::uint32_t> out;
    raster_mask({&base, &leak, &hidden, columns}, v, colors, out);
    for (int y = 0; y < v.height; ++y) {
      for (int x = 0; x < v.width; ++x) {
        const double a = v.x0 + x / v.zoom_x, b = v.x0 + (x + 1) / v.zoom_x;
        const double c = v.y0 + y / v.zoom_y, d = v.y0 + (y + 1) / v.zoom_y;
        double covered = 0, inside = 0;
        bool wrong = false, near = false;
        for (std::int64_t q = std::max<std::int64_t>(0, static_cast<std::int64_t>(c) - 9);
             q < std::min<std::int64_t>(rows, static_cast<std::int64_t>(d) + 10); ++q) {
          for (std::int64_t k = std::max<std::int64_t>(0, static_cast<std::int64_t>(a) - 9);
               k < std::min<std::int64_t>(columns, static_cast<std::int64_t>(b) + 10); ++k) {
            const double area = share(a, b, v.zoom_x, k) * share(c, d, v.zoom_y, q);
            const bool error = leak.at(q, k) || hidden.at(q, k);
            inside += area;
            if (base.at(q, k)) covered += area;
            // A shade of rounding is no overlap.
            if (error && area > 1e-9) wrong = true;
            const double dx = std::max(a - static_cast<double>(k + 1), static_cast<double>(k) - b);
            const double dy = std::max(c - static_cast<double>(q + 1), static_cast<double>(q) - d);
            if (error && dx * v.zoom_x <= 1.001 && dy * v.zoom_y <= 1.001) near = true;
          }
        }
        const std::uint32_t pixel = out[static_cast<std::size_t>(y * v.width + x)];
        const std::string at = "round " + std::to_string(round) + " pixel " + std::to_string(x) +
                               "," + std::to_string(y);
        ASSERT_TRUE(!wrong || is_error(colors, pixel)) << at;
        if (is_error(colors, pixel)) {
          ASSERT_TRUE(near) << at;
          continue;
        }
        if (inside < 1e-6) continue;  // outside, or a sliver
        const double want = covered / inside * 255;
        const auto it = std::find(colors.density.begin(), colors.density.end(), pixel);
        ASSERT_NE(it, colors.density.end()) << at;
        // Neighbouring densities may have one colour.
        const auto found = static_cast<std::size_t>(it - colors.density.begin());
        const auto lo = static_cast<std::size_t>(std::clamp(want - 1.01, 0.0, 255.0));
        const auto hi = static_cast<std::size_t>(std::clamp(want + 1.51, 0.0, 255.0));
        bool same = false;
        for (std::size_t i = lo; i <= hi; ++i) same = same || colors.density[i] == pixel;
        ASSERT_TRUE(same) << at << " wants " << want << " found " << found;
      }
    }
  }
}

TEST(MaskRaster, OneWrongCellIsVisibleAtAnyZoom) {
  Dice dice(300);
  const MaskColors colors = mask_colors(false);
  const std::int64_t n = 65536;
  const Mask mask = mask_of("Q=65536 KV=65536; causal & segments(0-20000,20000-65536)");
  const Bands none = mask::filled(0, n, 0, 0);
  std::vector<std::uint32_t> out;
  for (int round = 0; round < 300; ++round) {
    const std::int64_t q = dice.below(n), k = dice.below(n);
    const bool allowed = mask.plane(0, 0).at(q, k);
    const Bands cell = one_cell(n, q, k);
    Viewport v;
    v.width = 320;
    v.height = 200;
    v.zoom_x = std::pow(2.0, dice.real(-8.4, 5));
    v.zoom_y = dice.below(3) == 0 ? std::pow(2.0, dice.real(-8.4, 5)) : v.zoom_x;
    // Anywhere, as long as the whole cell is on the screen.
    v.x0 = static_cast<double>(k) - dice.real(0, 319 / v.zoom_x - 1);
    v.y0 = static_cast<double>(q) - dice.real(0, 199 / v.zoom_y - 1);
    if (v.zoom_x * 2 > v.width || v.zoom_y * 2 > v.height) continue;
    raster_mask({&mask.plane(0, 0), allowed ? &none : &cell, allowed ? &cell : &none, n}, v, colors,
                out);
    int left = v.width, right = -1, top = v.height, bottom = -1;
    for (int y = 0; y < v.height; ++y) {
      for (int x = 0; x < v.width; ++x) {
        if (!is_error(colors, out[static_cast<std::size_t>(y * v.width + x)])) continue;
        left = std::min(left, x);
        right = std::max(right, x);
        top = std::min(top, y);
        bottom = std::max(bottom, y);
      }
    }
    ASSERT_GE(right, 0) << "cell " << q << "," << k << " lost at zoom " << v.zoom_x;
    EXPECT_TRUE(left == 0 || right == v.width - 1 || right - left >= 2);
    EXPECT_TRUE(top == 0 || bottom == v.height - 1 || bottom - top >= 2);
  }
}

TEST(MaskRaster, MarginsCountEveryErrorOfTheirRowsAndColumns) {
  Dice dice(11);
  for (int round = 0; round < 40; ++round) {
    const Mask a =
        mask_of("Q=57 KV=93 q_offset=30; causal & window(" + std::to_string(dice.below(50)) + ")");
    const Mask b = mask_of("Q=57 KV=93 q_offset=" + std::to_string(28 + dice.below(5)) +
                           "; causal | kv_range(0,3)");
    const Bands errors = mask::combine(a.plane(0, 0), b.plane(0, 0), SetOp::kXor);
    Viewport v{dice.real(-5, 40), dice.real(-5, 30), std::pow(2.0, dice.real(-2, 3)), 0, 40, 33};
    v.zoom_y = v.zoom_x;
    const auto by_row = row_margin(errors, 93, v);
    const auto by_column = column_margin(errors, v);
    for (int y = 0; y < v.height; ++y) {
      double want = 0;
      const double c = v.y0 + y / v.zoom_y, d = v.y0 + (y + 1) / v.zoom_y;
      for (std::int64_t q = 0; q < 57; ++q) {
        if (share(c, d, v.zoom_y, q) > 1e-12) {
          want += static_cast<double>(count_in(errors, {q, q + 1, 0, 93}));
        }
      }
      EXPECT_EQ(by_row[static_cast<std::size_t>(y)], want) << round << " row " << y;
    }
    for (int x = 0; x < v.width; ++x) {
      double want = 0;
      const double c = v.x0 + x / v.zoom_x, d = v.x0 + (x + 1) / v.zoom_x;
      for (std::int64_t k = 0; k < 93; ++k) {
        want += share(c, d, v.zoom_x, k) * static_cast<double>(count_in(errors, {0, 57, k, k + 1}));
      }
      EXPECT_NEAR(by_column[static_cast<std::size_t>(x)], want, 1e-6) << round << " column " << x;
    }
  }
}

TEST(MaskErrors, CountsMatchTheCells) {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    const mask::Program program = mask::random_program(seed);
    const auto mask = mask::evaluate(program);
    ASSERT_TRUE(mask.ok());
    const Bands& plane = mask->plane(0, 0);
    const std::int64_t rows = program.dims.Q, columns = program.dims.KV;
    if (rows == 0 || columns == 0) continue;
    Dice dice(seed);
    for (int n = 0; n < 20; ++n) {
      Rect r{dice.below(rows + 1), dice.below(rows + 1), dice.below(columns + 1),
             dice.below(columns + 1)};
      std::int64_t want = 0;
      for (std::int64_t q = r.row0; q < r.row1; ++q) {
        for (std::int64_t k = r.column0; k < r.column1; ++k) want += plane.at(q, k) ? 1 : 0;
      }
      EXPECT_EQ(count_in(plane, r), want) << "seed " << seed;
      const OffScreen off = off_screen(plane, columns, r);
      if (r.row0 >= r.row1 || r.column0 >= r.column1) continue;
      EXPECT_EQ(off.total() + want, plane.count()) << "seed " << seed;
      for (std::size_t s = 0; s < off.sides.size(); ++s) {
        const auto& d = off.sides[s];
        EXPECT_EQ(d.count > 0, d.nearest.has_value()) << "seed " << seed << " side " << s;
        if (!d.nearest) continue;
        const auto [q, k] = *d.nearest;
        EXPECT_TRUE(plane.at(q, k)) << "seed " << seed << " side " << s;
        const int down = q < r.row0 ? -1 : q >= r.row1 ? 1 : 0;
        const int right = k < r.column0 ? -1 : k >= r.column1 ? 1 : 0;
        constexpr int kDown[] = {-1, -1, 0, 1, 1, 1, 0, -1}, kRight[] = {0, 1, 1, 1, 0, -1, -1, -1};
        EXPECT_EQ(down, kDown[s]);
        EXPECT_EQ(right, kRight[s]);
      }
    }
  }
}

TEST(MaskErrors, PiecesAreVisitedInOrderAndAroundTheEnd) {
  Bands errors(0);
  const auto run = [](std::int64_t lo, std::int64_t hi) {
    return mask::Run{mask::Edge(lo, 0), mask::Edge(hi, 0)};
  };
  const std::vector<mask::Run> two = {run(3, 4), run(9, 12)}, one = {run(1, 2)};
  errors.append(5, {});
  errors.append(7, two);
  errors.append(20, {});
  errors.append(21, one);
  errors.append(30, {});
  std::vector<CellAt> seen;
  CellAt at{0, 0};
  for (int n = 0; n < 4; ++n) {
    at = *next_piece(errors, at);
    seen.push_back(at);
  }
  EXPECT_EQ(seen, (std::vector<CellAt>{{5, 3}, {5, 9}, {20, 1}, {5, 3}}));
  EXPECT_EQ(*previous_piece(errors, {5, 3}), (CellAt{20, 1}));
  EXPECT_EQ(*previous_piece(errors, {20, 1}), (CellAt{5, 9}));
  EXPECT_EQ(*previous_piece(errors, {99, 0}), (CellAt{20, 1}));
  EXPECT_FALSE(next_piece(mask::filled(0, 4, 0, 0), {0, 0}).has_value());
}

TEST(MaskRaster, AMillionSquaredIsDrawnWhole) {
  const Mask mask = mask_of("Q=1048576 KV=1048576; causal");
  Viewport v = fitted(1 << 20, 1 << 20, 64, 64);
  std::vector<std::uint32_t> out;
  const MaskColors colors = mask_colors(true);
  raster_mask({&mask.plane(0, 0), nullptr, nullptr, 1 << 20}, v, colors, out);
  EXPECT_EQ(out[0 * 64 + 63], colors.density[0]);
  EXPECT_EQ(out[63 * 64 + 0], colors.density[255]);
  EXPECT_EQ(out[20 * 64 + 20], colors.density[128]);  // half of a pixel on the diagonal
}

}  // namespace
}  // namespace ps::view
