#include "viewer/ui/canvas.h"

#include <algorithm>
#include <cmath>

namespace ps::viewer {

namespace {

constexpr double kMostPixelsACell = 256;

std::map<std::string, Canvas, std::less<>>& canvases() {
  static std::map<std::string, Canvas, std::less<>> all;
  return all;
}

// Where the first cell stands so that `centre` is in the middle, without an empty margin.
double origin(double centre, double cells, double seen) {
  if (seen >= cells) return 0;
  return std::clamp(centre - seen / 2, 0.0, cells - seen);
}

void move_and_zoom(App& app, std::string_view panel, const Canvas& canvas, double zoom,
                   double most_zoom) {
  const ImGuiIO& io = ImGui::GetIO();
  const double seen_x = canvas.width() / canvas.cell_width;
  const double seen_y = canvas.height() / canvas.cell_height;
  double x = canvas.left + seen_x / 2, y = canvas.top + seen_y / 2;
  double to = zoom;
  if (canvas.hovered && io.MouseWheel != 0) {
    to = std::clamp(zoom * std::pow(1.25, static_cast<double>(io.MouseWheel)), 1.0, most_zoom);
    // What is under the mouse stays there.
    const double at_x = canvas.left + (io.MousePos.x - canvas.min.x) / canvas.cell_width;
    const double at_y = canvas.top + (io.MousePos.y - canvas.min.y) / canvas.cell_height;
    x = at_x + (x - at_x) * zoom / to;
    y = at_y + (y - at_y) * zoom / to;
  }
  const bool dragged = ImGui::IsItemActive() && ImGui::IsMouseDragging(ImGuiMouseButton_Left, 4);
  if (dragged) {
    x -= io.MouseDelta.x / canvas.cell_width;
    y -= io.MouseDelta.y / canvas.cell_height;
  }
  const bool moved = dragged && (io.MouseDelta.x != 0 || io.MouseDelta.y != 0);
  if (to == zoom && !moved) return;
  (void)app.execute_merged("view " + std::string(panel) + " " + text_of(x) + " " + text_of(y) +
                           " " + text_of(to));
}

}  // namespace

std::int64_t Canvas::first_row() const {
  return std::clamp<std::int64_t>(static_cast<std::int64_t>(std::floor(top)), 0, rows);
}
std::int64_t Canvas::first_column() const {
  return std::clamp<std::int64_t>(static_cast<std::int64_t>(std::floor(left)), 0, columns);
}
std::int64_t Canvas::end_row() const {
  return std::clamp<std::int64_t>(
      static_cast<std::int64_t>(std::ceil(top + height() / cell_height)), 0, rows);
}
std::int64_t Canvas::end_column() const {
  return std::clamp<std::int64_t>(static_cast<std::int64_t>(std::ceil(left + width() / cell_width)),
                                  0, columns);
}

Canvas matrix_canvas(App& app, std::string_view panel, std::int64_t rows, std::int64_t columns,
                     ImVec2 size, const CanvasOptions& options) {
  Canvas canvas;
  canvas.rows = std::max<std::int64_t>(rows, 1);
  canvas.columns = std::max<std::int64_t>(columns, 1);
  const ImVec2 cursor = ImGui::GetCursorScreenPos();
  canvas.min = ImVec2(std::floor(cursor.x), std::floor(cursor.y));
  size = ImVec2(std::max(8.0f, std::floor(size.x)), std::max(8.0f, std::floor(size.y)));

  double fit_x = std::min(options.most_pixels, size.x / static_cast<double>(canvas.columns));
  double fit_y = std::min(options.most_pixels, size.y / static_cast<double>(canvas.rows));
  if (options.square) fit_x = fit_y = std::min(fit_x, fit_y);
  const PlaneView view = app.state.display.view(panel);
  const double most_zoom = std::max(1.0, kMostPixelsACell / std::min(fit_x, fit_y));
  const double zoom = std::clamp(view.zoom, 1.0, most_zoom);
  canvas.cell_width = std::min(fit_x * zoom, std::max(fit_x, kMostPixelsACell));
  canvas.cell_height = std::min(fit_y * zoom, std::max(fit_y, kMostPixelsACell));
  // Smaller than the room when everything is seen: nothing is drawn beside the cells.
  const double whole_x = canvas.cell_width * static_cast<double>(canvas.columns);
  const double whole_y = canvas.cell_height * static_cast<double>(canvas.rows);
  size.x = static_cast<float>(std::max(1.0, std::min<double>(size.x, std::round(whole_x))));
  size.y = static_cast<float>(std::max(1.0, std::min<double>(size.y, std::round(whole_y))));
  canvas.max = ImVec2(canvas.min.x + size.x, canvas.min.y + size.y);
  canvas.left = origin(zoom > 1 ? view.x : static_cast<double>(canvas.columns) / 2,
                       static_cast<double>(canvas.columns), size.x / canvas.cell_width);
  canvas.top = origin(zoom > 1 ? view.y : static_cast<double>(canvas.rows) / 2,
                      static_cast<double>(canvas.rows), size.y / canvas.cell_height);

  const std::string id = std::string(panel) + "_canvas";
  ImGui::SetCursorScreenPos(canvas.min);
  ImGui::InvisibleButton(id.c_str(), size);
  canvas.hovered = ImGui::IsItemHovered();
  if (canvas.hovered) {
    ImGui::SetItemKeyOwner(ImGuiKey_MouseWheelY);  // the window does not scroll instead
    const ImVec2 mouse = ImGui::GetIO().MousePos;
    const double column = canvas.left + (mouse.x - canvas.min.x) / canvas.cell_width;
    const double row = canvas.top + (mouse.y - canvas.min.y) / canvas.cell_height;
    if (column >= 0 && column < static_cast<double>(canvas.columns) && row >= 0 &&
        row < static_cast<double>(canvas.rows)) {
      canvas.column = static_cast<std::int64_t>(column);
      canvas.row = static_cast<std::int64_t>(row);
    }
  }
  const bool was_drag = ImGui::GetMouseDragDelta(ImGuiMouseButton_Left, 4).x != 0 ||
                        ImGui::GetMouseDragDelta(ImGuiMouseButton_Left, 4).y != 0;
  canvas.clicked = canvas.row >= 0 && ImGui::IsItemDeactivated() && !was_drag;
  move_and_zoom(app, panel, canvas, zoom, most_zoom);
  publish_canvas(panel, canvas);
  return canvas;
}

const std::map<std::string, Canvas, std::less<>>& last_canvases() { return canvases(); }
void publish_canvas(std::string_view panel, const Canvas& canvas) {
  canvases()[std::string(panel)] = canvas;
}

float axis_width(std::int64_t rows) {
  const std::string widest = std::to_string(std::max<std::int64_t>(rows - 1, 0));
  return ImGui::CalcTextSize(widest.c_str()).x + ImGui::GetFontSize() * 0.9f;
}
float axis_height() { return ImGui::GetTextLineHeight() * 2 + 4; }

namespace {

// The name with an arrow behind it, down or to the right; where it ends.
float axis_name(ImDrawList& list, ImVec2 at, const std::string& name, bool down) {
  if (name.empty()) return at.x;
  const ImU32 ink = ImGui::GetColorU32(ImGuiCol_TextDisabled);
  list.AddText(at, ink, name.c_str());
  const float line = ImGui::GetTextLineHeight(), half = std::round(line * 0.22f);
  const float x = std::round(at.x + ImGui::CalcTextSize(name.c_str()).x + half * 2.2f);
  const float y = std::round(at.y + line * 0.55f);
  if (down) {
    list.AddTriangleFilled(ImVec2(x - half, y - half * 0.6f), ImVec2(x + half, y - half * 0.6f),
                           ImVec2(x, y + half), ink);
  } else {
    list.AddTriangleFilled(ImVec2(x - half * 0.6f, y - half), ImVec2(x - half * 0.6f, y + half),
                           ImVec2(x + half, y), ink);
  }
  return x + half;
}

// 1, 2, 5, 10, ... cells between two labels, so that `pixels` lie between them.
std::int64_t label_step(double cell, double pixels) {
  std::int64_t step = 1;
  for (int i = 0; static_cast<double>(step) * cell < pixels && i < 60; ++i) {
    const std::int64_t leading = i % 3;
    step = leading == 1 ? step / 2 * 5 : step * 2;
  }
  return step;
}

}  // namespace

void draw_axes(ImDrawList& list, const Canvas& canvas, const std::string& row_name,
               const std::string& column_name) {
  const ImU32 ink = ImGui::GetColorU32(ImGuiCol_TextDisabled);
  const float line = ImGui::GetTextLineHeight();
  const std::string widest = std::to_string(canvas.columns - 1);
  const double wanted = ImGui::CalcTextSize(widest.c_str()).x + ImGui::GetFontSize() * 0.8;
  const std::int64_t across = label_step(canvas.cell_width, wanted);
  for (std::int64_t c = (canvas.first_column() + across - 1) / across * across;
       c < canvas.end_column(); c += across) {
    const std::string text = std::to_string(c);
    const float middle = canvas.x_of(static_cast<double>(c) + 0.5);
    if (middle > canvas.max.x || middle < canvas.min.x) continue;
    const float half = ImGui::CalcTextSize(text.c_str()).x / 2;
    list.AddText(ImVec2(middle - half, canvas.min.y - line - 2), ink, text.c_str());
  }
  const std::int64_t down = label_step(canvas.cell_height, line * 1.1);
  for (std::int64_t r = (canvas.first_row() + down - 1) / down * down; r < canvas.end_row();
       r += down) {
    const std::string text = std::to_string(r);
    const float middle = canvas.y_of(static_cast<double>(r) + 0.5);
    if (middle > canvas.max.y || middle < canvas.min.y) continue;
    const float width = ImGui::CalcTextSize(text.c_str()).x;
    list.AddText(ImVec2(canvas.min.x - width - 4, middle - line / 2), ink, text.c_str());
  }
  ImVec2 at(canvas.min.x, canvas.min.y - line * 2 - 4);
  if (!row_name.empty()) {
    at.x = axis_name(list, at, row_name, true) + line;
  }
  axis_name(list, at, column_name, false);
}

void draw_marker(ImDrawList& list, const Canvas& canvas, std::int64_t row, std::int64_t column,
                 ImU32 color) {
  float x0 = canvas.x_of(static_cast<double>(column)),
        x1 = canvas.x_of(static_cast<double>(column) + 1);
  float y0 = canvas.y_of(static_cast<double>(row)), y1 = canvas.y_of(static_cast<double>(row) + 1);
  const auto widen = [](float& a, float& b) {
    if (b - a >= 7) return;
    const float middle = (a + b) / 2;
    a = middle - 3.5f;
    b = middle + 3.5f;
  };
  widen(x0, x1);
  widen(y0, y1);
  const auto hold = [](float& a, float& b, float low, float high) {
    const float size = std::min(b - a, high - low);
    if (a < low) {
      a = low;
      b = low + size;
    } else if (b > high) {
      b = high;
      a = high - size;
    }
  };
  hold(x0, x1, canvas.min.x, canvas.max.x);
  hold(y0, y1, canvas.min.y, canvas.max.y);
  x0 = std::floor(x0), y0 = std::floor(y0), x1 = std::ceil(x1), y1 = std::ceil(y1);
  list.AddRect(ImVec2(x0 - 1, y0 - 1), ImVec2(x1 + 1, y1 + 1), IM_COL32(0, 0, 0, 255), 0, 1);
  list.AddRect(ImVec2(x0 - 2, y0 - 2), ImVec2(x1 + 2, y1 + 2), color, 0, 1);
  list.AddRect(ImVec2(x0 - 3, y0 - 3), ImVec2(x1 + 3, y1 + 3), color, 0, 1);
}

}  // namespace ps::viewer
