#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "core/rng.h"
#include "diff/picture/colors.h"
#include "diff/picture/grid.h"
#include "diff/picture/heatmap.h"
#include "diff/picture/image.h"

namespace ps {
namespace {

constexpr Color kWhite{255, 255, 255};
constexpr Color kBlack{0, 0, 0};
constexpr Color kRed{200, 10, 20};

// ---- drawing -----------------------------------------------------------------------------------

std::string ascii(const Image& image, Color ink) {
  std::string out;
  for (int y = 0; y < image.height(); ++y) {
    for (int x = 0; x < image.width(); ++x) out += image.at(x, y) == ink ? '#' : '.';
    out += '\n';
  }
  return out;
}

TEST(Image, LettersAreDrawnDotByDot) {
  Image image(11, 9, kWhite);
  image.text(0, 0, "Lp", kBlack);
  EXPECT_EQ(ascii(image, kBlack),
            "#..........\n"
            "#..........\n"
            "#.....####.\n"
            "#.....#...#\n"
            "#.....#...#\n"
            "#.....#...#\n"
            "#####.####.\n"
            "......#....\n"
            "......#....\n");
}

TEST(Image, EveryPrintableLetterIsDifferent) {
  std::vector<std::uint64_t> seen;
  for (char c = ' '; c < 127; ++c) {
    Image image(6, 9, kWhite);
    image.text(0, 0, std::string(1, c), kBlack);
    seen.push_back(image.hash());
  }
  std::sort(seen.begin(), seen.end());
  EXPECT_EQ(std::adjacent_find(seen.begin(), seen.end()), seen.end());
}

TEST(Image, WhatLiesOutsideIsNotDrawn) {
  Image image(4, 3, kWhite);
  image.fill({-2, -2, 3, 3}, kBlack);
  image.fill({3, 2, 100, 100}, kBlack);
  image.fill({1, 1, -5, 2}, kRed);
  image.text(-100, 1000, "\xff\x01 outside", kRed, 3);
  EXPECT_EQ(ascii(image, kBlack), "#...\n....\n...#\n");
  EXPECT_EQ(ascii(image, kRed), "....\n....\n....\n");
}

TEST(Image, HashIsThatOfWidthHeightAndPixels) {
  // FNV-1a of 02000000 01000000 c80a14 000000, computed elsewhere.
  Image image(2, 1, kBlack);
  image.set(0, 0, kRed);
  EXPECT_EQ(image.hash(), 0x83e871b72466e8a4U);
}

// ---- colours -----------------------------------------------------------------------------------

// Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB; then CIE Lab.
using Vector = std::array<double, 3>;
using Matrix = std::array<Vector, 3>;
constexpr Matrix kNormal = {{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}};
constexpr Matrix kProtan = {{{0.152286, 1.052583, -0.204868},
                             {0.114503, 0.786281, 0.099216},
                             {-0.003882, -0.048116, 1.051998}}};
constexpr Matrix kDeutan = {{{0.367322, 0.860646, -0.227968},
                             {0.280085, 0.672501, 0.047413},
                             {-0.011820, 0.042940, 0.968881}}};
constexpr Matrix kTritan = {{{1.255528, -0.076749, -0.178779},
                             {-0.078411, 0.930809, 0.147602},
                             {0.004733, 0.691367, 0.303900}}};

Vector times(const Matrix& m, const Vector& v) {
  Vector out{};
  for (std::size_t i = 0; i < 3; ++i) out[i] = m[i][0] * v[0] + m[i][1] * v[1] + m[i][2] * v[2];
  return out;
}

Vector lab(Color c, const Matrix& eyes) {
  const auto linear = [](std::uint8_t v) {
    const double s = v / 255.0;
    return s <= 0.04045 ? s / 12.92 : std::pow((s + 0.055) / 1.055, 2.4);
  };
  Vector rgb = times(eyes, {linear(c.r), linear(c.g), linear(c.b)});
  for (double& v : rgb) v = std::clamp(v, 0.0, 1.0);
  constexpr Matrix kXyz = {
      {{0.4124, 0.3576, 0.1805}, {0.2126, 0.7152, 0.0722}, {0.0193, 0.1192, 0.9505}}};
  const Vector xyz = times(kXyz, rgb);
  const auto f = [](double t) { return t > 0.008856 ? std::cbrt(t) : 7.787 * t + 16.0 / 116; };
  const double x = f(xyz[0] / 0.9505), y = f(xyz[1]), z = f(xyz[2] / 1.089);
  return {116 * y - 16, 500 * (x - y), 200 * (y - z)};
}

double distance(Color a, Color b, const Matrix& eyes) {
  const Vector p = lab(a, eyes), q = lab(b, eyes);
  return std::hypot(p[0] - q[0], p[1] - q[1], p[2] - q[2]);
}

TEST(Colors, RightAndWrongDifferForAllEyes) {
  for (const Theme theme : {Theme::kLight, Theme::kDark}) {
    for (const Matrix& eyes : {kNormal, kProtan, kDeutan, kTritan}) {
      for (double good = 1e-4; good <= 1; good *= 1.7) {
        for (double bad = 1.0001; bad < 1e7; bad *= 2.1) {
          EXPECT_GT(distance(color_of_ratio(good, theme), color_of_ratio(bad, theme), eyes), 20)
              << good << " " << bad;
        }
      }
      const Palette& p = palette_of(theme);
      for (const double ratio : {0.01, 0.9, 2.0, 1e3, 1e6}) {
        EXPECT_GT(distance(p.broken, color_of_ratio(ratio, theme), eyes), 10) << ratio;
        EXPECT_GT(distance(p.propagated, color_of_ratio(ratio, theme), eyes), 10) << ratio;
      }
    }
  }
}

TEST(Colors, TheBoundIsAJumpAndNanIsNoRatio) {
  const double over = std::nextafter(1.0, 2.0);
  for (const Theme theme : {Theme::kLight, Theme::kDark}) {
    EXPECT_GT(distance(color_of_ratio(1.0, theme), color_of_ratio(over, theme), kNormal), 30);
    EXPECT_EQ(color_of_ratio(std::nan(""), theme), palette_of(theme).broken);
    EXPECT_EQ(color_of_ratio(HUGE_VAL, theme), color_of_ratio(1e6, theme));
    EXPECT_EQ(color_of_ratio(0, theme), color_of_ratio(1e-9, theme));
  }
}

TEST(Colors, CividisGetsEvenlyLighter) {
  double before = -1;
  for (double share = 0; share <= 1; share += 0.05) {
    const double lightness = lab(cividis(share), kDeutan)[0];
    EXPECT_GT(lightness, before) << share;
    before = lightness;
  }
}

// ---- tensors -----------------------------------------------------------------------------------

TEST(ErrorGrid, EveryGridCellIsTheMaximumOfItsBlock) {
  const Rng rng(11, 0);
  const Shape shape = {3, 7, 53};
  ErrorGridBuilder builder(shape, 5, 11);
  std::vector<float> ratios(3 * 7 * 53);
  for (std::size_t i = 0; i < ratios.size(); ++i) {
    ratios[i] = static_cast<float>(rng.below(i, 1000)) / 500.0F;
  }
  builder.add(40, std::span(ratios).subspan(40));  // in parts, and not in order
  builder.add(0, std::span(ratios).first(40));
  const ErrorGrid& grid = builder.grid();
  ASSERT_EQ(grid.rows, 5);
  ASSERT_EQ(grid.columns, 11);
  std::vector<float> expected(55, 0.0F);
  std::int64_t over = 0;
  for (std::size_t i = 0; i < ratios.size(); ++i) {
    const std::size_t row = i / 53 * 5 / 21, column = i % 53 * 11 / 53;
    expected[row * 11 + column] = std::max(expected[row * 11 + column], ratios[i]);
    over += ratios[i] > 1.0F ? 1 : 0;
  }
  EXPECT_EQ(grid.worst, expected);
  EXPECT_EQ(grid.over, over);
  const auto largest = std::max_element(ratios.begin(), ratios.end());
  EXPECT_EQ(grid.largest, static_cast<double>(*largest));
  EXPECT_EQ(grid.largest_at, largest - ratios.begin());
}

TEST(ErrorGrid, NanIsKeptAndCounted) {
  ErrorGridBuilder builder({2, 100}, 1, 10);
  builder.add(150, std::nan(""));
  builder.add(151, 1e30);
  builder.add(3, 1 + 1e-12);  // over the bound by less than a float can say
  EXPECT_TRUE(std::isnan(builder.grid().worst[5]));
  EXPECT_GT(builder.grid().worst[0], 1.0F);
  EXPECT_EQ(builder.grid().over, 3);
  EXPECT_EQ(builder.grid().largest_at, 150);
  EXPECT_TRUE(std::isinf(builder.grid().largest));
}

TEST(ErrorGrid, EmptyAndScalarTensorsAreDrawn) {
  for (const Shape& shape : {Shape{}, Shape{0}, Shape{3, 0}, Shape{0, 3}, Shape{1}}) {
    ErrorGridBuilder builder(shape);
    builder.add(0, 2.0);
    EXPECT_GT(draw_heatmap(builder.grid(), {"t", "", "", "", 1}, Theme::kLight).width(), 0);
  }
}

int pixels(const Image& image, const Box& box, Color color) {
  int n = 0;
  for (int y = box.y; y < box.y + box.height; ++y) {
    for (int x = box.x; x < box.x + box.width; ++x) n += image.at(x, y) == color ? 1 : 0;
  }
  return n;
}

TEST(Heatmap, SmallTensorIsDrawnCellByCell) {
  ErrorGridBuilder builder({2, 3});
  const std::vector<float> ratios = {0.0F, 0.25F, 0.9F, 1.5F, 4e4F, std::nanf("")};
  builder.add(0, ratios);
  const HeatmapLayout l = heatmap_layout(builder.grid());
  const Image image = draw_heatmap(builder.grid(), {"title", "", "", "", 1}, Theme::kDark);
  for (int row = 0; row < 2; ++row) {
    for (int column = 0; column < 3; ++column) {
      const Box cell{l.cells.x + column * l.cell_width, l.cells.y + row * l.cell_height,
                     l.cell_width, l.cell_height};
      const auto ratio = static_cast<double>(ratios[static_cast<std::size_t>(row * 3 + column)]);
      EXPECT_EQ(pixels(image, cell, color_of_ratio(ratio, Theme::kDark)), cell.width * cell.height)
          << row << " " << column;
    }
  }
}

TEST(Heatmap, OneWrongCellOfMillionsIsSeenAnywhere) {
  const Rng rng(5, 0);
  const Shape shape = {2, 1031, 3001};
  const std::int64_t count = count_of(shape);
  for (int round = 0; round < 24; ++round) {
    ErrorGridBuilder builder(shape);
    const std::int64_t corner[] = {0, count - 1, 3000, count - 3001};
    const auto draw = static_cast<std::uint64_t>(round);
    builder.add(round < 4 ? corner[round] : rng.below(draw, count), 1.01);
    const HeatmapLayout l = heatmap_layout(builder.grid());
    const Image image = draw_heatmap(builder.grid(), {"", "", "", "", 1}, Theme::kLight);
    const Color wrong = color_of_ratio(static_cast<double>(1.01F), Theme::kLight);
    EXPECT_GE(pixels(image, l.cells, wrong), 9) << round;
    EXPECT_GE(pixels(image, l.row_worst, wrong), 3 * l.row_worst.width) << round;
    EXPECT_GE(pixels(image, l.column_worst, wrong), 3 * l.column_worst.height) << round;
  }
}

}  // namespace
}  // namespace ps
