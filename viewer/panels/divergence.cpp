// The landing panel: layers by ops. What went wrong by itself is saturated, what only passed it on
// is pale, so the eye goes to the cause.
#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "diff/report/strip.h"
#include "diff/report/strip_picture.h"
#include "diff/report/words.h"
#include "viewer/data/computed.h"
#include "viewer/data/magnitudes.h"
#include "viewer/panel.h"
#include "viewer/ui/canvas.h"
#include "viewer/ui/strip_legend.h"

namespace ps::viewer {

namespace {

constexpr Color kCaptured = {74, 84, 96};  // there, but nothing to compare with

struct Row {
  const StripRow* strip = nullptr;
  bool in_layers = false;
  std::vector<std::string> points;  // as strip->cells; empty where there is none
};

class DivergencePanel final : public Panel {
 public:
  void draw(App& app, Ui& ui) override {
    update(app);
    head(app);
    if (rows_.empty()) {
      centred_text(app.session.masks().empty() || !app.session.runs().empty()
                       ? "This step has no points that the table of points knows."
                       : "A mask has no points; the Mask panel shows it.");
      return;
    }
    steps(app);
    magnitudes_now(app);
    // Where there is little room the strip has it.
    float legend = draw_legend(false);
    if (legend > ImGui::GetContentRegionAvail().y * 0.2f) legend = 0;
    if (ImGui::BeginChild("strip",
                          ImVec2(0, std::max(60.0f, ImGui::GetContentRegionAvail().y - legend)), 0,
                          ImGuiWindowFlags_HorizontalScrollbar)) {
      strip(app, ui);
    }
    ImGui::EndChild();
    if (legend > 0) draw_legend(true);
  }

 private:
  void update(App& app) {
    const Selection& s = app.state.selection;
    const std::uint64_t version = app.session.version();
    if (version == version_ && s.run == run_ && s.step == step_ && s.rank == rank_) return;
    version_ = version;
    run_ = s.run;
    step_ = s.step;
    rank_ = s.rank;
    Report part;
    report_ = app.session.report(s.run);
    compared_ = report_ != nullptr && !report_->points.empty();
    if (compared_) {
      part.first_divergence = report_->first_divergence;
      for (const PointRow& row : report_->points) {
        if (row.step == s.step && row.rank == s.rank) part.points.push_back(row);
      }
    } else {
      for (const std::string& name : app.session.points(s.run, s.step, s.rank)) {
        PointRow row;
        row.step = s.step;
        row.rank = s.rank;
        row.point = name;
        row.status = PointStatus::kUnmatched;
        if (const TensorView* t = app.session.actual(s.run, s.step, s.rank, name))
          row.shape = t->shape;
        part.points.push_back(std::move(row));
      }
    }
    // The first divergence is starred only in its own step.
    if (part.first_divergence &&
        (part.first_divergence->step != s.step || part.first_divergence->rank != s.rank)) {
      part.first_divergence.reset();
    }
    points_ = std::move(part.points);
    part.points = points_;
    strip_ = strip_of(part);
    legend_ = legend_of(strip_);
    rows_.clear();
    by_name_.clear();
    for (const PointRow& row : points_) by_name_.emplace(row.point, &row);
    for (const StripRow& row : strip_.before) add_row(row, false);
    for (const StripRow& row : strip_.inside) add_row(row, true);
    for (const StripRow& row : strip_.after) add_row(row, false);
    lamps_.clear();
    if (report_ == nullptr) return;
    for (const Finding& f : report_->findings) {
      if (f.severity == Severity::kInfo || f.step != s.step || f.rank != s.rank) continue;
      lamps_.insert(f.point);
    }
  }

  // In the modes expected and actual the strip shows how large the values are.
  void magnitudes_now(App& app) {
    magnitudes_ = nullptr;
    const Mode mode = app.mode();
    if (mode == Mode::kDiff) return;
    const Selection& s = app.state.selection;
    const RunPtr run = mode == Mode::kExpected ? app.session.reference() : app.session.run(s.run);
    if (run == nullptr) return;
    const MagnitudeKey key{app.session.version(), mode, s.run, s.step, s.rank};
    magnitudes_ =
        magnitude_models_.get(app, "magnitudes", key, false, [=](const std::stop_token& stop) {
          return made_magnitudes(run, key.step, key.rank, stop);
        });
  }

  void add_row(const StripRow& strip, bool in_layers) {
    Row row{&strip, in_layers, {}};
    for (std::size_t c = 0; c < strip.cells.size(); ++c) {
      row.points.push_back(in_layers ? name_in_layer(strip.op, strip_.layer_numbers[c]) : strip.op);
    }
    rows_.push_back(std::move(row));
  }

  void head(App& app) {
    if (report_ == nullptr) {
      faint_text(
          app.session.reference() == nullptr
              ? "No comparison: this trace stands alone. Ctrl+P, then  reference PATH  compares it."
              : "Comparing ...");
      return;
    }
    const bool wrong = exit_code(*report_) != 0;
    ImGui::PushStyleColor(ImGuiCol_Text,
                          wrong ? ImVec4(1, 0.62f, 0.38f, 1) : ImVec4(0.55f, 0.78f, 1, 1));
    ImGui::TextUnformatted(headline(*report_).c_str());
    ImGui::PopStyleColor();
    if (!report_->points.empty()) {
      ImGui::SameLine();
      ImGui::TextDisabled(
          "%s", fitted(points_summary(*report_), ImGui::GetContentRegionAvail().x).c_str());
    }
    if (report_->first_divergence) {
      const std::string words = "first: " + place_text(*report_->first_divergence);
      if (ImGui::Selectable(fitted(words, ImGui::GetContentRegionAvail().x).c_str()))
        (void)app.execute("first");
    }
  }

  // One box a step, as bad as its worst point; a click goes there.
  void steps(App& app) {
    const std::vector<std::int64_t> all = app.session.steps();
    if (all.size() < 2 || !compared_) return;
    const float side = ImGui::GetFrameHeight() * 0.8f;
    ImGui::TextDisabled("steps");
    for (const std::int64_t step : all) {
      StripCell worst;
      for (const PointRow& row : report_->points) {
        if (row.step != step) continue;
        if (!worst.captured || worse(row.status, row.ratio, worst.status, worst.ratio)) {
          worst = {true, row.status, row.ratio, false};
        }
      }
      ImGui::SameLine(0, scaled(3));
      const ImVec2 at = ImGui::GetCursorScreenPos();
      ImGui::PushID(static_cast<int>(step));
      if (ImGui::InvisibleButton("step", ImVec2(side, side)))
        (void)app.execute("step " + std::to_string(step));
      ImGui::PopID();
      if (ImGui::IsItemHovered()) {
        ImGui::SetTooltip("step %lld: %s", static_cast<long long>(step),
                          std::string(to_string(worst.status)).c_str());
      }
      ImDrawList& list = *ImGui::GetWindowDrawList();
      const ImVec2 end(at.x + side, at.y + side);
      list.AddRectFilled(at, end,
                         u32(worst.captured ? color_of(worst, Theme::kDark) : colors().empty), 2);
      if (step == app.state.selection.step) list.AddRect(at, end, IM_COL32_WHITE, 2, 2);
    }
  }

  // The point that the strip calls "self_attn:probs" in a layer, "output" the layer itself.
  std::string name_in_layer(const std::string& op, std::int64_t layer) const {
    const std::string whole = "model.layers." + std::to_string(layer);
    for (const std::string& name : {whole + "." + op, whole + ":" + op, whole + op}) {
      if (find_row(name) != nullptr) return name;
    }
    return op == "output" && find_row(whole) != nullptr ? whole : "";
  }
  const PointRow* find_row(const std::string& point) const {
    const auto found = by_name_.find(point);
    return found == by_name_.end() ? nullptr : found->second;
  }

  void strip(App& app, Ui& ui) {
    // Smaller letters rather than rows out of sight, as far as they can be read.
    const ImVec2 room = ImGui::GetContentRegionAvail();
    const double needed =
        (ImGui::GetTextLineHeight() + 2) * static_cast<double>(rows_.size() + 1) + 6;
    const double shrink = std::clamp(room.y / needed, 0.72, 1.0);
    ImGui::PushFont(ui.mono, ImGui::GetStyle().FontSizeBase * static_cast<float>(shrink));
    float label = 0;
    for (const Row& row : rows_)
      label = std::max(label, ImGui::CalcTextSize(row.strip->op.c_str()).x);
    label += ImGui::GetFontSize();
    const auto layers = std::max<std::int64_t>(1, std::ssize(strip_.layer_numbers));
    const float line = ImGui::GetTextLineHeight();
    Canvas canvas;
    canvas.rows = std::ssize(rows_);
    canvas.columns = layers;
    canvas.cell_width =
        std::clamp<double>(std::floor((room.x - label - 4) / static_cast<double>(layers)), 6,
                           ImGui::GetFontSize() * 5);
    canvas.cell_height = std::clamp<double>(
        std::floor((room.y - line - 6) / static_cast<double>(rows_.size())), line + 1, line * 1.7);
    const ImVec2 origin = ImGui::GetCursorScreenPos();
    canvas.min = ImVec2(std::floor(origin.x + label), std::floor(origin.y + line + 4));
    canvas.max = ImVec2(
        canvas.min.x + static_cast<float>(canvas.cell_width * static_cast<double>(layers)),
        canvas.min.y + static_cast<float>(canvas.cell_height * static_cast<double>(rows_.size())));
    ImDrawList& list = *ImGui::GetWindowDrawList();
    const ImU32 faint = ImGui::GetColorU32(ImGuiCol_TextDisabled);
    if (!strip_.layer_numbers.empty()) list.AddText(ImVec2(origin.x, origin.y), faint, "layer");
    const auto every =
        static_cast<std::int64_t>(std::ceil(ImGui::CalcTextSize("000").x / canvas.cell_width));
    for (std::int64_t i = 0; i < std::ssize(strip_.layer_numbers); i += every) {
      const std::string number = std::to_string(strip_.layer_numbers[static_cast<std::size_t>(i)]);
      const float x =
          canvas.x_of(static_cast<double>(i) + 0.5) - ImGui::CalcTextSize(number.c_str()).x / 2;
      list.AddText(ImVec2(x, origin.y), faint, number.c_str());
    }
    ImGui::SetCursorScreenPos(canvas.min);
    ImGui::InvisibleButton("divergence_canvas",
                           ImVec2(canvas.max.x - canvas.min.x, canvas.max.y - canvas.min.y));
    canvas.hovered = ImGui::IsItemHovered();
    canvas.clicked = ImGui::IsItemClicked();
    for (std::int64_t r = 0; r < canvas.rows; ++r) {
      const Row& row = rows_[static_cast<std::size_t>(r)];
      const float y0 = canvas.y_of(static_cast<double>(r)),
                  y1 = canvas.y_of(static_cast<double>(r) + 1);
      list.AddText(ImVec2(origin.x, (y0 + y1 - line) / 2), ImGui::GetColorU32(ImGuiCol_Text),
                   row.strip->op.c_str());
      for (std::int64_t c = 0; c < std::ssize(row.strip->cells); ++c) {
        cell(app, list, canvas, row, r, c);
      }
    }
    publish_canvas("divergence", canvas);
    scroll_to_selected(app, canvas);
    ImGui::PopFont();
  }

  void cell(App& app, ImDrawList& list, Canvas& canvas, const Row& row, std::int64_t r,
            std::int64_t c) {
    const StripCell& cell = row.strip->cells[static_cast<std::size_t>(c)];
    const ImVec2 min(canvas.x_of(static_cast<double>(c)), canvas.y_of(static_cast<double>(r)));
    ImVec2 max(canvas.x_of(static_cast<double>(c) + 1) - 1,
               canvas.y_of(static_cast<double>(r) + 1) - 1);
    if (!row.in_layers) max.x = std::max(max.x, min.x + ImGui::GetFontSize() * 1.6f);
    if (!cell.captured) {
      list.AddRectFilled(min, max, u32(colors().empty, 90));
      return;
    }
    const std::string& point = row.points[static_cast<std::size_t>(c)];
    const Magnitude* magnitude = nullptr;
    if (magnitudes_ != nullptr) {
      const auto found = magnitudes_->points.find(point);
      if (found != magnitudes_->points.end()) magnitude = &found->second;
    }
    const Color color =
        magnitude != nullptr
            ? magnitude->nonfinite > 0 ? colors().broken : cividis(magnitudes_->share(*magnitude))
        : compared_ && magnitudes_ == nullptr ? color_of(cell, Theme::kDark)
                                              : kCaptured;
    list.AddRectFilled(min, max, u32(color));
    if (compared_ && magnitudes_ == nullptr && max.x - min.x > ImGui::GetFontSize() * 0.7f) {
      const char letter[2] = {letter_of(cell), 0};
      const ImVec2 size = ImGui::CalcTextSize(letter);
      list.AddText(ImVec2((min.x + max.x - size.x) / 2, (min.y + max.y - size.y) / 2),
                   u32(ink_on(color)), letter);
    }
    const bool under =
        canvas.hovered && ImGui::IsMouseHoveringRect(min, ImVec2(max.x + 1, max.y + 1));
    const bool here = !point.empty() && app.state.selection.point == point;
    if (cell.first) {
      list.AddTriangleFilled(min, ImVec2(min.x + 7, min.y), ImVec2(min.x, min.y + 7),
                             IM_COL32_WHITE);
    }
    if (lamps_.contains(point)) {
      const float radius = std::min(3.0f, (max.x - min.x) / 4);
      const ImVec2 at(max.x - radius - 1, min.y + radius + 1);
      list.AddCircleFilled(at, radius + 1, IM_COL32_BLACK);
      list.AddCircleFilled(at, radius, IM_COL32(255, 221, 120, 255));
    }
    if (here) {
      list.AddRect(ImVec2(min.x - 1, min.y - 1), ImVec2(max.x + 1, max.y + 1), IM_COL32_BLACK, 0,
                   1);
      list.AddRect(ImVec2(min.x - 2, min.y - 2), ImVec2(max.x + 2, max.y + 2), IM_COL32_WHITE, 0,
                   2);
    }
    if (!under) return;
    canvas.row = r;
    canvas.column = c;
    tooltip(point, magnitude);
    if (canvas.clicked && !point.empty()) (void)app.execute("go " + point);
  }

  // Only when something else was selected: the user may look elsewhere.
  void scroll_to_selected(const App& app, const Canvas& canvas) {
    const std::string& point = app.state.selection.point;
    if (point == scrolled_to_) return;
    scrolled_to_ = point;
    for (std::int64_t r = 0; r < canvas.rows; ++r) {
      const std::vector<std::string>& names = rows_[static_cast<std::size_t>(r)].points;
      const bool here = std::find(names.begin(), names.end(), point) != names.end();
      if (!here) continue;
      const float top = canvas.y_of(static_cast<double>(r));
      const float height = static_cast<float>(canvas.cell_height);
      const ImVec2 window = ImGui::GetWindowPos();
      if (top < window.y || top + height * 2 > window.y + ImGui::GetWindowHeight()) {
        ImGui::SetScrollFromPosY(top - window.y, 0.4f);
      }
    }
  }

  void tooltip(const std::string& point, const Magnitude* magnitude) const {
    const PointRow* row = find_row(point);
    if (row == nullptr) return;
    std::string text = point + "\n" + ps::to_string(row->shape) + " " + row->dtype;
    if (magnitude != nullptr) {
      text +=
          "\nrms " + number_text(magnitude->rms) + ", largest " + number_text(magnitude->largest);
      if (magnitude->nonfinite > 0)
        text += ", " + std::to_string(magnitude->nonfinite) + " NaN or infinite";
    }
    if (compared_) {
      text += "\n" + std::string(to_string(row->status)) + ", " + ratio_text(row->ratio) +
              " of the bound" + "\nmax abs " + number_text(row->max_abs) + ", rel L2 " +
              number_text(row->rel_l2) + ", " + std::to_string(row->max_ulp) + " ulp";
      for (const Finding& f : report_->findings) {
        if (f.point == point && f.step == row->step && f.rank == row->rank)
          text += "\n" + f.id + ": " + f.message;
      }
    }
    ImGui::BeginTooltip();
    ImGui::PushTextWrapPos(ImGui::GetFontSize() * 40);
    ImGui::TextUnformatted(text.c_str());
    ImGui::PopTextWrapPos();
    ImGui::EndTooltip();
  }

  // How high it is; drawn only when asked for.
  float draw_legend(bool draw) const {
    const float line = ImGui::GetTextLineHeightWithSpacing();
    if (magnitudes_ != nullptr) {
      if (draw)
        ImGui::TextDisabled("%s", ("rms of the values, from " + number_text(magnitudes_->low) +
                                   " (dark) to " + number_text(magnitudes_->high) + " (light)")
                                      .c_str());
      return line + 6;
    }
    if (!compared_) return 0;
    return strip_legend(legend_, draw);
  }

  struct MagnitudeKey {
    std::uint64_t version = 0;
    Mode mode = Mode::kDiff;
    std::int64_t run = 0, step = 0, rank = 0;
    bool operator==(const MagnitudeKey&) const = default;
  };
  Computed<MagnitudeKey, Magnitudes> magnitude_models_;
  std::shared_ptr<const Magnitudes> magnitudes_;
  std::uint64_t version_ = ~std::uint64_t{0};
  std::int64_t run_ = -1, step_ = -1, rank_ = -1;
  std::shared_ptr<const Report> report_;
  bool compared_ = false;
  std::vector<PointRow> points_;
  Strip strip_;
  std::vector<LegendEntry> legend_;
  std::vector<Row> rows_;
  std::map<std::string, const PointRow*> by_name_;
  std::set<std::string> lamps_;  // points that a finding names: look there, or distrust them
  std::string scrolled_to_;
};

}  // namespace

std::unique_ptr<Panel> make_divergence_panel() { return std::make_unique<DivergencePanel>(); }

}  // namespace ps::viewer
