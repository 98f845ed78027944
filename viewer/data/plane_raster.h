// Pixels of a matrix from its pyramid: values by a colour map, errors so that a wrong cell covers
// at least 3 x 3 pixels however far away it is.
#pragma once

#include <cstdint>
#include <span>

#include "diff/picture/colors.h"
#include "viewer/app/selection.h"
#include "viewer/data/pyramid.h"

namespace ps::viewer {

// The part of the matrix that is seen, as a canvas has it.
struct Window {
  int width = 1, height = 1;               // pixels
  double left = 0, top = 0;                // cell coordinate of the first pixel's edge
  double cell_width = 1, cell_height = 1;  // pixels a cell
};

struct ErrorScale {
  Metric metric = Metric::kRatio;
  double tolerance = 1;  // kRatio: what is over it is wrong
  double low = 0, high = 0;
  bool log = true;
  ColorMap map = ColorMap::kCividis;
};
struct ValueScale {
  double low = 0, high = 1;
  bool log = false;
  ColorMap map = ColorMap::kCividis;
};

Color color_in(ColorMap map, double share);  // 0 to 1
Color color_of_error(float error, const ErrorScale& scale);
Color color_of_value(float value, const ValueScale& scale);

// 0xAABBGGRR, width x height.
void draw_errors(const Pyramid& errors, const Window& window, const ErrorScale& scale,
                 std::span<std::uint32_t> pixels);
void draw_values(const Pyramid& values, const Window& window, const ValueScale& scale,
                 std::span<std::uint32_t> pixels);

}  // namespace ps::viewer
