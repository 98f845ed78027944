// Who may attend whom: the mask that should be, the one that is, and where they differ; bands along
// the axes, an expression over all masks, and why a cell is as it is.
#include <algorithm>
#include <cmath>

#include "diff/view/mask_raster.h"
#include "viewer/app/commands.h"
#include "viewer/data/computed.h"
#include "viewer/data/mask_place.h"
#include "viewer/data/places.h"
#include "viewer/panel.h"
#include "viewer/ui/canvas.h"
#include "viewer/ui/mask_marks.h"

namespace ps::viewer {

namespace {

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
    MaskWork work;
    const MaskKey key = mask_key(app, work);
    if (const auto* known = models_.made(key)) return *known;
    const bool at_once = mask_bytes(work, key) < (1 << 20);
    return models_.get(app, "mask", key, at_once,
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
      const std::string text = wrong ? std::to_string(m.pair.leaks) +
                                           (m.pair.leaks == 1 ? " leak, " : " leaks, ") +
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
      if (ImGui::SmallButton("<##error")) (void)app.execute("previous");
      ImGui::SameLine(0, scaled(2));
      if (ImGui::SmallButton(">##error")) (void)app.execute("next");
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
    const float width = ImGui::GetFontSize() * 6.5f;
    ImGui::SameLine();
    if (ImGui::GetContentRegionAvail().x < width + ImGui::CalcTextSize(label).x + scaled(12))
      ImGui::NewLine();
    ImGui::AlignTextToFramePadding();
    ImGui::TextDisabled("%s", label);
    ImGui::SameLine();
    ImGui::SetNextItemWidth(width);
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
    ImGui::SetNextItemWidth(std::min(ImGui::GetContentRegionAvail().x, ImGui::GetFontSize() * 26));
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

  void body(App& app, Ui& ui, const MaskModel& m) {
    const ImVec2 room = ImGui::GetContentRegionAvail();
    const ImVec2 corner = ImGui::GetCursorScreenPos();
    const float font = ImGui::GetFontSize(), strip = std::round(font * 0.45f),
                margin = std::round(font * 1.6f);
    const float side = room.x > room.y * 1.3f ? std::min(room.x * 0.3f, font * 22) : 0;
    const float legend = ImGui::GetTextLineHeightWithSpacing() *
                             ((room.x < font * 60 ? 2.0f : 1.0f) + (side > 0 ? 0.0f : 5.0f)) +
                         4;
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
    draw_mask_axes(list, canvas, strip + 3);
    draw_bands(list, m.keys, canvas, strip, true);
    draw_bands(list, m.queries, canvas, strip, false);
    draw_margins(list, m, canvas, viewport, margin);
    if (m.blocks) draw_blocks(list, *m.blocks, canvas);
    if (app.mode() == Mode::kDiff && !m.algebra) draw_rings(list, m, canvas);
    if (const auto cell = draw_arrows(list, m, canvas)) go_to_mask_cell(app, *cell);
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
      // Beside the cells, not at the far edge.
      const float x = std::min(corner.x + room.x - side, canvas.max.x + margin + font * 1.5f);
      ImGui::SetCursorScreenPos(ImVec2(x, corner.y));
      const ImVec2 size(std::min(corner.x + room.x - x, font * 32), room.y - legend);
      if (ImGui::BeginChild("why", size)) reasons(app, m);
      ImGui::EndChild();
    } else {
      reasons(app, m);
    }
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
    picture.take(pixels_, viewport.width, viewport.height);
    picture.commit();
  }

  // On the next line where this one is full.
  static void swatch(ImU32 color, const char* word) {
    const float size = ImGui::GetFontSize() * 0.7f;
    if (ImGui::GetContentRegionAvail().x < size + 4 + ImGui::CalcTextSize(word).x) ImGui::NewLine();
    const ImVec2 at = ImGui::GetCursorScreenPos();
    ImGui::GetWindowDrawList()->AddRectFilled(ImVec2(at.x, at.y + size * 0.35f),
                                              ImVec2(at.x + size, at.y + size * 1.35f), color);
    ImGui::Dummy(ImVec2(size, size));
    ImGui::SameLine(0, scaled(4));
    ImGui::TextDisabled("%s", word);
    ImGui::SameLine(0, scaled(12));
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
      swatch(band_color(band.kind, 0), std::string(to_string(band.kind)).c_str());
    }
    if (m.blocks) {
      const std::string asked = app.state.display.option("mask.blocks", "auto");
      if (asked != "auto") swatch(IM_COL32(120, 220, 160, 255), "full tile");
      swatch(IM_COL32(236, 196, 92, 255), asked == "auto" ? "selected block" : "partial tile");
      if (ImGui::GetContentRegionAvail().x < ImGui::CalcTextSize(m.blocks->words.c_str()).x)
        ImGui::NewLine();
      ImGui::TextDisabled("%s", m.blocks->words.c_str());
      return;
    }
    ImGui::NewLine();
  }

  // Why the selected cell is as it is, and which tiles of block lists are shown.
  static void reasons(App& app, const MaskModel& m) {
    ImGui::TextUnformatted("This cell");
    const Selection& s = app.state.selection;
    const mask::CellIndex cell{m.row, m.head, s.at("query", m.pair.rows),
                               s.at("key", m.pair.columns)};
    faint_text(view::cell_text(m.pair, m.set->program(), cell));
    ImGui::Spacing();
    ImGui::TextUnformatted("Tiles of block lists");
    const std::string now = app.state.display.option("mask.blocks", "auto");
    std::vector<std::pair<std::string, std::string>> choices = {
        {"none", m.selected ? "set mask.blocks none" : "set mask.blocks"}};
    if (m.selected) choices.insert(choices.begin(), {"selected", "set mask.blocks"});
    for (const char* size : {"16", "64", "128"})
      choices.emplace_back(size, std::string("set mask.blocks ") + size);
    choice(app, now != "auto" ? now : m.selected ? "selected" : "none", choices);
    if (!m.blocks_problem.empty()) faint_text(m.blocks_problem);
    if (!m.selected_problem.empty()) faint_text(m.selected_problem);
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
