#include "viewer/ui/mask_marks.h"

#include <algorithm>
#include <cmath>

namespace ps::viewer {

ImU32 band_color(view::AxisBand::Kind kind, std::size_t index) {
  switch (kind) {
    case view::AxisBand::Kind::kPrefix:
      return IM_COL32(178, 132, 214, 255);
    case view::AxisBand::Kind::kPadding:
      return IM_COL32(110, 110, 110, 255);
    case view::AxisBand::Kind::kPast:
      return IM_COL32(86, 140, 200, 255);
    case view::AxisBand::Kind::kNew:
      return IM_COL32(96, 190, 150, 255);
    case view::AxisBand::Kind::kSegment:
      return index % 2 == 0 ? IM_COL32(206, 170, 90, 255) : IM_COL32(132, 168, 208, 255);
  }
  return 0;
}

void draw_bands(ImDrawList& list, const std::vector<view::AxisBand>& all, const Canvas& canvas,
                float strip, bool keys) {
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto begin = static_cast<double>(all[i].begin), end = static_cast<double>(all[i].end);
    ImVec2 a, b;
    if (keys) {
      a = ImVec2(std::max(canvas.min.x, canvas.x_of(begin)), canvas.min.y - strip - 2);
      b = ImVec2(std::min(canvas.max.x, canvas.x_of(end)), canvas.min.y - 2);
    } else {
      a = ImVec2(canvas.min.x - strip - 2, std::max(canvas.min.y, canvas.y_of(begin)));
      b = ImVec2(canvas.min.x - 2, std::min(canvas.max.y, canvas.y_of(end)));
    }
    if (b.x <= a.x || b.y <= a.y) continue;
    list.AddRectFilled(a, b, band_color(all[i].kind, i));
    if (ImGui::IsMouseHoveringRect(a, b)) {
      ImGui::SetTooltip("%s %s: %lld to %lld", keys ? "keys" : "queries", all[i].label.c_str(),
                        static_cast<long long>(all[i].begin),
                        static_cast<long long>(all[i].end - 1));
    }
  }
}

// How many wrong cells each row and column of pixels has, over the whole plane.
void draw_margins(ImDrawList& list, const MaskModel& m, const Canvas& canvas,
                  const view::Viewport& viewport, float margin) {
  if (m.pair.errors.empty()) return;
  const ImU32 color = IM_COL32(240, 110, 70, 255);
  const auto rows = view::row_margin(m.pair.errors, m.pair.columns, viewport);
  const auto columns = view::column_margin(m.pair.errors, viewport);
  const double most_row = std::max(1.0, *std::max_element(rows.begin(), rows.end()));
  const double most_column = std::max(1.0, *std::max_element(columns.begin(), columns.end()));
  const auto length = [&](double n, double most) {
    return n <= 0 ? 0.0f : 2 + (margin - 6) * static_cast<float>(std::log1p(n) / std::log1p(most));
  };
  for (int y = 0; y < viewport.height; ++y) {
    const float n = length(rows[static_cast<std::size_t>(y)], most_row);
    if (n > 0)
      list.AddRectFilled(ImVec2(canvas.max.x + 3, canvas.min.y + static_cast<float>(y)),
                         ImVec2(canvas.max.x + 3 + n, canvas.min.y + static_cast<float>(y) + 1),
                         color);
  }
  for (int x = 0; x < viewport.width; ++x) {
    const float n = length(columns[static_cast<std::size_t>(x)], most_column);
    if (n > 0)
      list.AddRectFilled(ImVec2(canvas.min.x + static_cast<float>(x), canvas.max.y + 3),
                         ImVec2(canvas.min.x + static_cast<float>(x) + 1, canvas.max.y + 3 + n),
                         color);
  }
}

// A few wrong cells that are small on the screen are ringed, so that the eye finds them.
void draw_rings(ImDrawList& list, const MaskModel& m, const Canvas& canvas) {
  constexpr int kMost = 24;
  if (canvas.cell_width >= 6 || m.pair.errors.runs() > kMost) return;
  list.PushClipRect(canvas.min, canvas.max, true);
  view::CellAt at{-1, -1};
  for (std::size_t i = 0; i < m.pair.errors.runs(); ++i) {
    const auto next = view::next_piece(m.pair.errors, at);
    if (!next) break;
    at = *next;
    const ImVec2 middle(canvas.x_of(static_cast<double>(at.second) + 0.5),
                        canvas.y_of(static_cast<double>(at.first) + 0.5));
    list.AddCircle(middle, 8, IM_COL32(0, 0, 0, 255), 24, 3);
    list.AddCircle(middle, 8, IM_COL32(255, 255, 255, 255), 24, 1.5f);
  }
  list.PopClipRect();
}

// Arrows at the edge, towards wrong cells that are not on the screen.
std::optional<view::CellAt> draw_arrows(ImDrawList& list, const MaskModel& m,
                                        const Canvas& canvas) {
  if (m.pair.errors.empty()) return std::nullopt;
  std::optional<view::CellAt> chosen;
  const view::OffScreen off = view::off_screen(
      m.pair.errors, m.pair.columns,
      {canvas.first_row(), canvas.end_row(), canvas.first_column(), canvas.end_column()});
  constexpr float kX[] = {0.5f, 1, 1, 1, 0.5f, 0, 0, 0}, kY[] = {0, 0, 0.5f, 1, 1, 1, 0.5f, 0};
  const float size = ImGui::GetFontSize() * 0.6f;
  for (std::size_t i = 0; i < off.sides.size(); ++i) {
    const auto& side = off.sides[i];
    if (side.count == 0) continue;
    const ImVec2 at(canvas.min.x + size + kX[i] * (static_cast<float>(canvas.width()) - 2 * size),
                    canvas.min.y + size + kY[i] * (static_cast<float>(canvas.height()) - 2 * size));
    const float dx = kX[i] * 2 - 1, dy = kY[i] * 2 - 1;
    const ImVec2 tip(at.x + dx * size * 0.8f, at.y + dy * size * 0.8f);
    const ImVec2 a(at.x - dy * size * 0.6f, at.y + dx * size * 0.6f),
        b(at.x + dy * size * 0.6f, at.y - dx * size * 0.6f);
    list.AddTriangleFilled(tip, a, b, IM_COL32(255, 90, 40, 255));
    list.AddTriangle(tip, a, b, IM_COL32(0, 0, 0, 255));
    const ImVec2 low(at.x - size, at.y - size), high(at.x + size, at.y + size);
    if (!ImGui::IsMouseHoveringRect(low, high)) continue;
    ImGui::SetTooltip("%lld wrong cells this way; click to go there",
                      static_cast<long long>(side.count));
    if (ImGui::IsMouseClicked(ImGuiMouseButton_Left) && side.nearest) chosen = side.nearest;
  }
  return chosen;
}

void draw_mask_axes(ImDrawList& list, const Canvas& canvas, float shift) {
  Canvas rows = canvas, columns = canvas;
  rows.min.x -= shift;
  columns.min.y -= shift;
  // Each axis alone: the other's labels are clipped away.
  list.PushClipRect(ImVec2(0, canvas.min.y - 9), ImVec2(canvas.min.x - shift, canvas.max.y + 20),
                    true);
  rows.left -= shift / rows.cell_width;
  draw_axes(list, rows, "", "");
  list.PopClipRect();
  columns.top -= shift / columns.cell_height;
  list.PushClipRect(ImVec2(canvas.min.x - 30, 0), ImVec2(canvas.max.x + 30, canvas.min.y - shift),
                    true);
  draw_axes(list, columns, "query", "key");
  list.PopClipRect();
}

namespace {

// The lines of the tiles in rows [top, end) and columns [lo, hi), as far as they are seen.
void outline(ImDrawList& list, const MaskBlocks& blocks, const Canvas& canvas, std::int64_t top,
             std::int64_t end, std::int64_t lo, std::int64_t hi, ImU32 color) {
  const std::int64_t first = std::max(top, canvas.first_row() - blocks.layer.bq),
                     last = std::min(end, canvas.end_row() + blocks.layer.bq);
  const auto next = [](std::int64_t at, std::int64_t origin, std::int64_t size) {
    return origin + (at - origin) / size * size + size;
  };
  for (std::int64_t r = first; r < last;) {
    const std::int64_t below = std::min(next(r, blocks.row_origin, blocks.layer.bq), last);
    std::int64_t c = std::max(lo, canvas.first_column() - blocks.layer.bk);
    const std::int64_t right = std::min(hi, canvas.end_column() + blocks.layer.bk);
    while (c < right) {
      const std::int64_t edge = std::min(next(c, blocks.column_origin, blocks.layer.bk), right);
      list.AddRect(ImVec2(std::floor(canvas.x_of(static_cast<double>(c))),
                          std::floor(canvas.y_of(static_cast<double>(r)))),
                   ImVec2(std::floor(canvas.x_of(static_cast<double>(edge))),
                          std::floor(canvas.y_of(static_cast<double>(below)))),
                   color);
      c = edge;
    }
    r = below;
  }
}

}  // namespace

// Tiles that are seen as tiles get an outline; smaller ones are a veil over their stretch.
void draw_blocks(ImDrawList& list, const MaskBlocks& blocks, const Canvas& canvas) {
  constexpr double kTile = 5;  // pixels
  list.PushClipRect(canvas.min, canvas.max, true);
  const bool outlined = canvas.cell_width * static_cast<double>(blocks.layer.bk) >= kTile &&
                        canvas.cell_height * static_cast<double>(blocks.layer.bq) >= kTile;
  for (const bool full : {true, false}) {
    const mask::Bands& bands = full ? blocks.layer.full : blocks.layer.partial;
    const ImU32 veil = full ? IM_COL32(120, 220, 160, 46) : IM_COL32(236, 196, 92, 46);
    const ImU32 line = full ? IM_COL32(120, 220, 160, 150) : IM_COL32(236, 196, 92, 170);
    for (std::size_t i = 0; i < bands.size(); ++i) {
      const mask::Bands::Band band = bands[i];
      const float y0 = canvas.y_of(static_cast<double>(band.begin)),
                  y1 = canvas.y_of(static_cast<double>(band.end));
      if (y1 < canvas.min.y || y0 > canvas.max.y) continue;
      for (const mask::Run& run : band.runs) {
        const std::int64_t lo = run.lo.base(), hi = run.hi.base();
        const float x0 = canvas.x_of(static_cast<double>(lo)),
                    x1 = canvas.x_of(static_cast<double>(hi));
        if (x1 < canvas.min.x || x0 > canvas.max.x) continue;
        list.AddRectFilled(ImVec2(x0, y0), ImVec2(std::max(x1, x0 + 1), std::max(y1, y0 + 1)),
                           veil);
        if (outlined) outline(list, blocks, canvas, band.begin, band.end, lo, hi, line);
      }
    }
  }
  list.PopClipRect();
}

}  // namespace ps::viewer
