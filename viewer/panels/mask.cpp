// Who may attend whom: the mask that should be, the one that is, and where they differ; bands along
// the axes, an expression over all masks, and why a cell is as it is.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "diff/view/mask_errors.h"
#include "diff/view/mask_raster.h"
#include "viewer/app/commands.h"
#include "viewer/data/computed.h"
#include "viewer/data/mask_model.h"
#include "viewer/data/places.h"
#include "viewer/panel.h"
#include "viewer/ui/canvas.h"

namespace ps::viewer {

namespace {

ImU32 color_of(view::AxisBand::Kind kind, std::size_t index) {
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

class MaskPanel final : public Panel {
 public:
  void draw(App& app, Ui& ui) override {
    if (app.session.runs().empty() && app.session.masks().empty() &&
        app.session.reference() == nullptr) {
      centred_text("Open a trace with probs or model:mask, or a mask program.");
      return;
    }
    const MaskModelPtr model = current(app);
    if (model == nullptr) {
      centred_text("Reading the masks of this step ...");
      return;
    }
    if (held_ != model) painted_model_ = nullptr;
    held_ = model;
    head(app, *model);
    if (model->pair.rows == 0 || model->pair.columns == 0) {
      centred_text(model->problem.empty() ? "This mask has no cell." : model->problem);
      return;
    }
    body(app, ui, *model);
  }

 private:
  MaskModelPtr current(App& app) {
    const Selection& s = app.state.selection;
    MaskWork work{app.session.run(s.run), app.session.reference(), app.session.masks(),
                  std::nullopt};
    if (work.run == nullptr && work.sources.empty()) work.run = work.reference;
    if (const ModelConfig* config = app.session.config()) work.config = *config;
    const RowPlace place = row_place(app, work.run.get(), s.step);
    MaskKey key;
    key.version = app.session.version();
    key.run = s.run;
    key.step = s.step;
    key.rank = s.rank;
    key.layer = selected_layer(s);
    key.row = work.sources.empty() ? place.row() : s.at("batch");
    key.batch = place.batch;
    key.head = s.at("head");
    key.expected = app.state.display.option("mask.expected");
    key.actual = app.state.display.option("mask.actual");
    key.expression = app.state.display.option("mask.expression");
    const TraceStep* step =
        work.run == nullptr ? nullptr : find_step(*work.run, key.step, key.rank);
    std::int64_t bytes = 0;
    if (step != nullptr) {
      for (const auto& entry : step->tensors->entries()) {
        if (entry.name.ends_with(":probs") || entry.name.starts_with("model:mask"))
          bytes += std::ssize(entry.view.bytes);
      }
    }
    return models_.get(app, "mask", key, bytes < (1 << 20),
                       [work = std::move(work), key](const std::stop_token&) {
                         return made_mask_model(work, key);
                       });
  }

  void head(App& app, const MaskModel& m) {
    ImGui::AlignTextToFramePadding();
    ImGui::TextDisabled("%s", place_words(app, m).c_str());
    picker(app, "expected:", "mask.expected", m.expected_name, m.names);
    picker(app, "actual:", "mask.actual", m.actual_name, m.names);
    ImGui::SameLine();
    if (m.pair.expected && m.pair.actual) {
      const bool wrong = m.pair.leaks + m.pair.hides > 0;
      const std::string text = wrong ? std::to_string(m.pair.leaks) + " leaks, " +
                                           std::to_string(m.pair.hides) + " hidden"
                                     : "equal";
      if (wrong) {
        ImGui::TextColored(ImVec4(1, 0.45f, 0.25f, 1), "%s", text.c_str());
      } else {
        ImGui::TextUnformatted(text.c_str());
      }
    } else {
      ImGui::TextDisabled("nothing to compare with");
    }
    if (!m.pair.errors.empty()) {
      ImGui::SameLine();
      if (ImGui::SmallButton("<##error")) go_to_error(app, m, false);
      ImGui::SameLine(0, 2);
      if (ImGui::SmallButton(">##error")) go_to_error(app, m, true);
    }
    expression(app, m);
  }

  static std::string place_words(const App& app, const MaskModel& m) {
    std::string text;
    if (m.run != nullptr) {
      const RowPlace place = row_place(app, m.run.get(), app.state.selection.step);
      if (place.replicas > 1) text = "replica " + std::to_string(place.replica) + "  ";
      text += "sample " + std::to_string(place.batch);
    } else {
      text = "batch " + std::to_string(m.row);
    }
    return text + "  head " + std::to_string(m.head) + " ";
  }

  static void picker(App& app, const char* label, const std::string& option, const std::string& now,
                     const std::vector<std::string>& names) {
    ImGui::SameLine();
    ImGui::TextDisabled("%s", label);
    ImGui::SameLine();
    ImGui::SetNextItemWidth(ImGui::GetFontSize() * 6.5f);
    const std::string id = "##" + option;
    if (!ImGui::BeginCombo(id.c_str(), now.empty() ? "none" : now.c_str())) return;
    for (const std::string& name : names) {
      if (ImGui::Selectable(name.c_str(), name == now))
        (void)app.execute("set " + option + " " + as_word(name));
    }
    ImGui::EndCombo();
  }

  void expression(App& app, const MaskModel& m) {
    const std::string now = app.state.display.option("mask.expression");
    if (now != shown_) {
      shown_ = now;
      std::snprintf(line_, sizeof line_, "%s", now.c_str());
    }
    ImGui::SetNextItemWidth(std::min(ImGui::GetContentRegionAvail().x, ImGui::GetFontSize() * 22));
    if (ImGui::InputTextWithHint("##expression",
                                 "expected & ~actual, layer0 ^ layer1, causal & ~window(4)", line_,
                                 sizeof line_, ImGuiInputTextFlags_EnterReturnsTrue)) {
      (void)app.execute(line_[0] == 0 ? std::string("set mask.expression")
                                      : "set mask.expression " + as_word(line_));
    }
    if (!m.algebra_problem.empty()) {
      ImGui::TextColored(ImVec4(1, 0.55f, 0.3f, 1), "%s",
                         fitted(m.algebra_problem, ImGui::GetContentRegionAvail().x).c_str());
    } else if (m.algebra) {
      ImGui::SameLine();
      ImGui::TextDisabled("%s", (std::to_string(m.algebra_cells) + " cells").c_str());
      ImGui::SameLine();
      if (ImGui::SmallButton("x##expression")) (void)app.execute("set mask.expression");
    }
  }

  static void go_to(App& app, const view::CellAt& cell) {
    (void)app.execute("at query=" + std::to_string(cell.first) +
                      " key=" + std::to_string(cell.second));
    const PlaneView view = app.state.display.view("mask");
    if (view.zoom <= 1) return;
    (void)app.execute_merged("view mask " + text_of(static_cast<double>(cell.second) + 0.5) + " " +
                             text_of(static_cast<double>(cell.first) + 0.5) + " " +
                             text_of(view.zoom));
  }
  static void go_to_error(App& app, const MaskModel& m, bool next) {
    const Selection& s = app.state.selection;
    const view::CellAt here{s.at("query"), s.at("key")};
    // The first press goes to the cell itself where it is the first wrong one.
    const auto to =
        next ? view::next_piece(m.pair.errors, here) : view::previous_piece(m.pair.errors, here);
    if (to) go_to(app, *to);
  }

  void body(App& app, Ui& ui, const MaskModel& m) {
    const ImVec2 room = ImGui::GetContentRegionAvail();
    const ImVec2 corner = ImGui::GetCursorScreenPos();
    const float font = ImGui::GetFontSize(), strip = std::round(font * 0.45f),
                margin = std::round(font * 1.6f);
    const float side = room.x > room.y * 1.3f ? std::min(room.x * 0.3f, font * 22) : 0;
    const float legend = ImGui::GetTextLineHeightWithSpacing() * (side > 0 ? 1.0f : 5.0f) + 4;
    const float left = axis_width(m.pair.rows) + strip + 3, top = axis_height() + strip + 3;
    ImGui::SetCursorScreenPos(ImVec2(corner.x + left, corner.y + top));
    const Canvas canvas =
        matrix_canvas(app, "mask", m.pair.rows, m.pair.columns,
                      ImVec2(room.x - left - margin - side - 8, room.y - top - margin - legend),
                      {.square = m.pair.rows > 1});
    const view::Viewport viewport{canvas.left,        canvas.top,     canvas.cell_width,
                                  canvas.cell_height, canvas.width(), canvas.height()};
    paint(app, ui, m, viewport);
    ImDrawList& list = *ImGui::GetWindowDrawList();
    ui.picture("mask").draw(list, canvas.min);
    list.AddRect(canvas.min, canvas.max, ImGui::GetColorU32(ImGuiCol_Border));
    draw_labels(list, canvas, strip + 3);
    bands(list, m.keys, canvas, strip, true);
    bands(list, m.queries, canvas, strip, false);
    margins(list, m, canvas, viewport, margin);
    if (app.mode() == Mode::kDiff && !m.algebra) rings(list, m, canvas);
    arrows(app, list, m, canvas);
    const Selection& s = app.state.selection;
    draw_marker(list, canvas, s.at("query", m.pair.rows), s.at("key", m.pair.columns),
                IM_COL32_WHITE);
    if (canvas.row >= 0) {
      ImGui::SetTooltip("%s", view::cell_text(m.pair, m.set->program(),
                                              {m.row, m.head, canvas.row, canvas.column})
                                  .c_str());
      if (canvas.clicked)
        (void)app.execute("at query=" + std::to_string(canvas.row) +
                          " key=" + std::to_string(canvas.column));
    }
    ImGui::SetCursorScreenPos(
        ImVec2(corner.x, std::min(canvas.max.y + margin + 4, corner.y + room.y - legend)));
    foot(app, m);
    if (side > 0) {
      ImGui::SetCursorScreenPos(ImVec2(corner.x + room.x - side, corner.y));
      if (ImGui::BeginChild("why", ImVec2(side, room.y - legend))) reasons(app, m);
      ImGui::EndChild();
    } else {
      reasons(app, m);
    }
  }

  static void draw_labels(ImDrawList& list, const Canvas& canvas, float shift) {
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

  void paint(App& app, Ui& ui, const MaskModel& m, const view::Viewport& viewport) {
    const Mode mode = app.mode();
    if (painted_model_ == &m && painted_ == viewport && painted_mode_ == mode) return;
    painted_model_ = &m;
    painted_ = viewport;
    painted_mode_ = mode;
    const view::PlanePair& pair = m.pair;
    const mask::Bands* base = mode == Mode::kExpected ? pair.expected.get() : pair.actual.get();
    if (base == nullptr) base = pair.expected ? pair.expected.get() : pair.actual.get();
    view::MaskLayers layers{base, nullptr, nullptr, pair.columns};
    if (m.algebra && m.algebra->end() == pair.rows) {
      layers.base = &*m.algebra;
    } else if (mode == Mode::kDiff && pair.expected && pair.actual) {
      layers.leak = &pair.leak;
      layers.hidden = &pair.hidden;
    }
    view::raster_mask(layers, viewport,
                      layers.base == base ? view::mask_colors(true) : view::algebra_colors(true),
                      pixels_);
    Picture& picture = ui.picture("mask");
    std::uint32_t* out = picture.resize(viewport.width, viewport.height);
    if (picture.width() == viewport.width && picture.height() == viewport.height) {
      std::memcpy(out, pixels_.data(), pixels_.size() * sizeof pixels_[0]);
    }
    picture.commit();
  }

  static void bands(ImDrawList& list, const std::vector<view::AxisBand>& all, const Canvas& canvas,
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
      list.AddRectFilled(a, b, color_of(all[i].kind, i));
      if (ImGui::IsMouseHoveringRect(a, b)) {
        ImGui::SetTooltip("%s %s: %lld to %lld", keys ? "keys" : "queries", all[i].label.c_str(),
                          static_cast<long long>(all[i].begin),
                          static_cast<long long>(all[i].end - 1));
      }
    }
  }

  // How many wrong cells each row and column of pixels has, over the whole plane.
  static void margins(ImDrawList& list, const MaskModel& m, const Canvas& canvas,
                      const view::Viewport& viewport, float margin) {
    if (m.pair.errors.empty()) return;
    const ImU32 color = IM_COL32(240, 110, 70, 255);
    const auto rows = view::row_margin(m.pair.errors, m.pair.columns, viewport);
    const auto columns = view::column_margin(m.pair.errors, viewport);
    const double most_row = std::max(1.0, *std::max_element(rows.begin(), rows.end()));
    const double most_column = std::max(1.0, *std::max_element(columns.begin(), columns.end()));
    const auto length = [&](double n, double most) {
      return n <= 0 ? 0.0f
                    : 2 + (margin - 6) * static_cast<float>(std::log1p(n) / std::log1p(most));
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
  static void rings(ImDrawList& list, const MaskModel& m, const Canvas& canvas) {
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
  static void arrows(App& app, ImDrawList& list, const MaskModel& m, const Canvas& canvas) {
    if (m.pair.errors.empty()) return;
    const view::OffScreen off = view::off_screen(
        m.pair.errors, m.pair.columns,
        {canvas.first_row(), canvas.end_row(), canvas.first_column(), canvas.end_column()});
    constexpr float kX[] = {0.5f, 1, 1, 1, 0.5f, 0, 0, 0}, kY[] = {0, 0, 0.5f, 1, 1, 1, 0.5f, 0};
    const float size = ImGui::GetFontSize() * 0.6f;
    for (std::size_t i = 0; i < off.sides.size(); ++i) {
      const auto& side = off.sides[i];
      if (side.count == 0) continue;
      const ImVec2 at(
          canvas.min.x + size + kX[i] * (static_cast<float>(canvas.width()) - 2 * size),
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
      if (ImGui::IsMouseClicked(ImGuiMouseButton_Left) && side.nearest) go_to(app, *side.nearest);
    }
  }

  static void swatch(ImU32 color, const char* word) {
    const float size = ImGui::GetFontSize() * 0.7f;
    const ImVec2 at = ImGui::GetCursorScreenPos();
    ImGui::GetWindowDrawList()->AddRectFilled(ImVec2(at.x, at.y + size * 0.35f),
                                              ImVec2(at.x + size, at.y + size * 1.35f), color);
    ImGui::Dummy(ImVec2(size, size));
    ImGui::SameLine(0, 4);
    ImGui::TextDisabled("%s", word);
    ImGui::SameLine(0, 12);
  }

  static void foot(App& app, const MaskModel& m) {
    const view::MaskColors colors =
        m.algebra ? view::algebra_colors(true) : view::mask_colors(true);
    swatch(colors.density[255], m.algebra ? "in the expression" : "allowed");
    if (!m.algebra && app.mode() == Mode::kDiff && m.pair.expected && m.pair.actual) {
      swatch(colors.leak, "leak: allowed, should not be");
      swatch(colors.hidden, "hidden: should be allowed");
    }
    std::vector<view::AxisBand::Kind> seen;
    for (const auto& band : m.keys) {
      if (std::find(seen.begin(), seen.end(), band.kind) != seen.end()) continue;
      seen.push_back(band.kind);
      swatch(color_of(band.kind, 0), std::string(to_string(band.kind)).c_str());
    }
    ImGui::NewLine();
  }

  // Why the selected cell is as it is.
  static void reasons(const App& app, const MaskModel& m) {
    const Selection& s = app.state.selection;
    const mask::CellIndex cell{m.row, m.head, s.at("query", m.pair.rows),
                               s.at("key", m.pair.columns)};
    faint_text(view::cell_text(m.pair, m.set->program(), cell));
  }

  Computed<MaskKey, MaskModel> models_;
  MaskModelPtr held_;
  const MaskModel* painted_model_ = nullptr;
  view::Viewport painted_;
  Mode painted_mode_ = Mode::kDiff;
  std::vector<std::uint32_t> pixels_;
  std::string shown_;
  char line_[256] = "";
};

}  // namespace

std::unique_ptr<Panel> make_mask_panel() { return std::make_unique<MaskPanel>(); }

}  // namespace ps::viewer
