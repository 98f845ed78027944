// A matrix of cells on the screen: drag to move, wheel to zoom, click to select. It only knows
// geometry; what the cells look like is the panel's. Where it stands is Display::views, so links
// and undo keep it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include <imgui.h>

#include "viewer/app/app.h"

namespace ps::viewer {

struct Canvas {
  ImVec2 min, max;  // the cells' part of the window, in pixels
  std::int64_t rows = 0, columns = 0;
  double cell_width = 1, cell_height = 1;  // pixels a cell; less than 1 when zoomed out
  double left = 0, top = 0;                // the cell coordinate at `min`
  bool hovered = false, clicked = false;
  std::int64_t row = -1, column = -1;  // under the mouse; -1: none

  int width() const { return static_cast<int>(max.x - min.x); }
  int height() const { return static_cast<int>(max.y - min.y); }
  float x_of(double column_edge) const {
    return min.x + static_cast<float>((column_edge - left) * cell_width);
  }
  float y_of(double row_edge) const {
    return min.y + static_cast<float>((row_edge - top) * cell_height);
  }
  // The cells that are seen, whole or in part.
  std::int64_t first_row() const, end_row() const, first_column() const, end_column() const;
};

struct CanvasOptions {
  bool square = false;      // cells are as wide as they are high
  double most_pixels = 40;  // a cell when everything fits
};

// Takes `size` at the cursor. `panel` names its view. PlaneView::zoom is how many times closer than
// all of it; 0 and 1 are all of it; x, y are the middle in cells.
Canvas matrix_canvas(App& app, std::string_view panel, std::int64_t rows, std::int64_t columns,
                     ImVec2 size, const CanvasOptions& options = {});

// Where the canvas of a panel was in the last frame: tests aim by it.
const std::map<std::string, Canvas, std::less<>>& last_canvases();
void publish_canvas(std::string_view panel, const Canvas& canvas);  // of a canvas of one's own

// Numbers along the left and the upper edge, as many as fit. `labels` turns an index into words.
void draw_axes(ImDrawList& list, const Canvas& canvas, const std::string& row_name,
               const std::string& column_name);
float axis_width(std::int64_t rows);  // room that draw_axes needs left of the canvas
float axis_height();                  // and above it

// A ring around a cell, at least 7 pixels wide; at the edge of the canvas where the cell is
// outside.
void draw_marker(ImDrawList& list, const Canvas& canvas, std::int64_t row, std::int64_t column,
                 ImU32 color);

}  // namespace ps::viewer
