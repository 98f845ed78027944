// One plane of a mask as pixels, for any part of it at any zoom, straight from its run lists. The
// law: zoomed out, a pixel of the base shows exactly the share of its area that is allowed, and it
// shows an error where any cell in it is wrong; an error is at least 3 pixels wide and high. Zoomed
// in, a pixel shows the cell under its centre.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "diff/mask/bands.h"

namespace ps::view {

// Which part of a plane is seen: cell coordinates of the upper left corner, pixels a cell.
struct Viewport {
  double x0 = 0, y0 = 0;  // key, query
  double zoom_x = 1, zoom_y = 1;
  int width = 0, height = 0;  // pixels
  bool operator==(const Viewport&) const = default;

  double x1() const { return x0 + width / zoom_x; }
  double y1() const { return y0 + height / zoom_y; }
};

// The whole plane, cells as square as they can be with each axis at least `least` pixels long.
Viewport fitted(std::int64_t rows, std::int64_t columns, int width, int height, double least = 48);

// What is drawn. The density is `base`'s; `leak` and `hidden` may be null.
struct MaskLayers {
  const mask::Bands* base = nullptr;
  const mask::Bands* leak = nullptr;    // allowed and should not be
  const mask::Bands* hidden = nullptr;  // should be allowed and is not
  std::int64_t columns = 0;             // of the plane; its rows are base's
};

// RGBA with red in the lowest byte, as Dear ImGui packs colours.
struct MaskColors {
  std::array<std::uint32_t, 256> density{};  // none of the pixel's cells allowed ... all
  std::uint32_t outside = 0;
  std::uint32_t leak = 0, hidden = 0, hidden_stripe = 0;
};
MaskColors mask_colors(bool dark);
// Another ink for a result of mask algebra, so that it is not taken for a mask of the model.
MaskColors algebra_colors(bool dark);
std::uint32_t packed(std::uint8_t r, std::uint8_t g, std::uint8_t b, std::uint8_t a = 255);

// Fills out[height * width]. One pixel is never both: a leak wins over a hidden pair in even
// columns.
void raster_mask(const MaskLayers& layers, const Viewport& view, const MaskColors& colors,
                 std::vector<std::uint32_t>& out);

// How many cells of `errors` lie in the rows (columns) of every pixel, over the whole length of the
// plane, on screen or not: the sparklines at its edges. A cell under several pixels counts in each.
std::vector<double> row_margin(const mask::Bands& errors, std::int64_t columns,
                               const Viewport& view);
std::vector<double> column_margin(const mask::Bands& errors, const Viewport& view);

}  // namespace ps::view
