// The history of the selected cell: every point that its token, head and key went through, in the
// order of the model, on both sides. The first that differs stands out.
#include <algorithm>
#include <cmath>

#include "diff/report/strip.h"
#include "viewer/app/commands.h"
#include "viewer/data/computed.h"
#include "viewer/data/history_model.h"
#include "viewer/panel.h"

namespace ps::viewer {

namespace {

struct Key {
  std::uint64_t version = 0;
  HistoryPlace place;
  double tolerance = 1;
  bool operator==(const Key&) const = default;
};

class HistoryPanel final : public Panel {
 public:
  void draw(App& app, Ui& ui) override {
    if (app.session.runs().empty() && app.session.reference() == nullptr) {
      centred_text(app.session.empty() ? "Nothing is open."
                                       : "Values are in traces: open the one that this is about.");
      return;
    }
    const Key key{app.session.version(), history_place(app.session, app.state.selection),
                  app.state.display.tolerance};
    const auto model = current(app, key);
    if (model == nullptr) {
      centred_text("Following the cell through the layer ...");
      return;
    }
    faint_text(key.place.words());
    if (model->rows.empty()) {
      centred_text("This step has no point that the cell went through.");
      return;
    }
    if (model->first >= 0) {
      ImGui::TextColored(
          kWrongInk, "%s",
          fitted("differs first at " + model->rows[static_cast<std::size_t>(model->first)].point,
                 ImGui::GetContentRegionAvail().x)
              .c_str());
    } else {
      ImGui::TextDisabled("%s", app.session.reference() == nullptr ? "nothing to compare with"
                                                                   : "the same on both sides");
    }
    table(app, ui, *model);
  }

 private:
  std::shared_ptr<const HistoryModel> current(App& app, const Key& key) {
    if (const auto* known = models_.made(key)) return *known;
    std::int64_t bytes = 0;
    for (const RunPtr& run : {app.session.run(key.place.run), app.session.reference()}) {
      if (run != nullptr) bytes = std::max(bytes, bytes_of(*run, key.place));
    }
    return models_.get(app, "history", key, bytes < (1 << 21),
                       [session = app.session, key](const std::stop_token& stop) {
                         return made_history(session, key.place, key.tolerance, stop);
                       });
  }

  static std::int64_t bytes_of(const Run& run, const HistoryPlace& place) {
    std::int64_t bytes = 0;
    for (std::size_t i = 0; i < run.trace.steps().size(); ++i) {
      const TraceStep& step = run.trace.steps()[i];
      if (step.step != place.step || step.rank != place.rank) continue;
      for (const auto& [name, view] : run.points[i]) bytes += std::ssize(view->bytes);
    }
    return bytes;
  }

  static void table(App& app, Ui& ui, const HistoryModel& m) {
    const ImGuiTableFlags flags = ImGuiTableFlags_RowBg | ImGuiTableFlags_ScrollY |
                                  ImGuiTableFlags_ScrollX | ImGuiTableFlags_SizingFixedFit;
    if (!ImGui::BeginTable("history", 6, flags)) return;
    ImGui::TableSetupScrollFreeze(1, 1);
    for (const char* name : {"point", "actual", "expected", "of the bound", "wrong", "worst cell"})
      ImGui::TableSetupColumn(name);
    ImGui::TableHeadersRow();
    for (std::size_t i = 0; i < m.rows.size(); ++i)
      row(app, ui, m.rows[i], static_cast<std::ptrdiff_t>(i) == m.first, static_cast<int>(i));
    ImGui::EndTable();
  }

  static void row(App& app, Ui& ui, const HistoryRow& r, bool first, int id) {
    ImGui::TableNextRow();
    ImGui::TableNextColumn();
    ImGui::PushID(id);
    ImGui::PushFont(ui.mono, 0.0f);
    const bool here = r.point == app.state.selection.point;
    if (r.differs())
      ImGui::PushStyleColor(ImGuiCol_Text, first ? kWrongInk : ImVec4(0.86f, 0.74f, 0.62f, 1));
    const std::string label = (first ? "> " : "  ") + r.point + (r.of_key ? "  (key)" : "");
    const bool chosen = ImGui::Selectable(label.c_str(), here, ImGuiSelectableFlags_SpanAllColumns);
    if (r.differs()) ImGui::PopStyleColor();
    const auto number = [](double x) {
      char text[40];
      std::snprintf(text, sizeof text, "%.6g", x);
      return std::string(text);
    };
    cell_text(r.has_actual ? number(r.values.actual) : "-");
    cell_text(r.has_expected ? number(r.values.expected) : "-");
    const bool both = r.has_actual && r.has_expected;
    ImGui::TableNextColumn();
    if (both) {
      const double ratio = std::isnan(r.values.abs) ? NAN : r.values.ratio;
      const float side = ImGui::GetTextLineHeight() * 0.7f;
      const ImVec2 at = ImGui::GetCursorScreenPos();
      ImGui::GetWindowDrawList()->AddRectFilled(
          ImVec2(at.x, at.y + side * 0.3f), ImVec2(at.x + side, at.y + side * 1.3f),
          u32(color_of_ratio(ratio / std::max(app.state.display.tolerance, 1e-9), Theme::kDark)));
      ImGui::Dummy(ImVec2(side, side));
      ImGui::SameLine(0, scaled(6));
      ImGui::TextUnformatted(std::isnan(ratio) ? "class differs" : ratio_text(ratio).c_str());
    }
    cell_text(both ? std::to_string(r.wrong) + " / " + std::to_string(r.cells) : "");
    cell_text(r.where);
    ImGui::PopFont();
    ImGui::PopID();
    if (!chosen) return;
    std::string line = "go " + as_word(r.point);
    for (const auto& [axis, at] : r.cell) line += " " + axis + "=" + std::to_string(at);
    (void)app.execute(line);
  }

  Computed<Key, HistoryModel> models_;
};

}  // namespace

std::unique_ptr<Panel> make_history_panel() { return std::make_unique<HistoryPanel>(); }

}  // namespace ps::viewer
