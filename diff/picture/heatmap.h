// A tensor's errors as a picture: |error| / bound of every grid cell, the worst of each row and of
// each column beside it, and a scale. A cell over the bound covers at least 3x3 pixels.
#pragma once

#include <string>

#include "diff/picture/colors.h"
#include "diff/picture/grid.h"
#include "diff/picture/image.h"

namespace ps {

struct HeatmapLabels {
  std::string title;
  std::string subtitle;  // under the title, fainter
  std::string rows;      // what the rows are
  std::string columns;
  std::int64_t row_groups = 1;  // equal parts of the rows, numbered at the left: the first axis
};

Image draw_heatmap(const ErrorGrid& grid, const HeatmapLabels& labels, Theme theme);

// Where the cells of a drawn grid lie in the picture; tests and the viewer need it.
struct HeatmapLayout {
  Box cells;
  Box row_worst;     // right of the cells
  Box column_worst;  // below them
  int cell_width = 1;
  int cell_height = 1;
};
HeatmapLayout heatmap_layout(const ErrorGrid& grid);

// "|error| / bound" from 0.001 to a million, `width` pixels wide.
void draw_ratio_scale(Image& image, int x, int y, int width, Theme theme);
inline constexpr int kRatioScaleHeight = 24;

}  // namespace ps
