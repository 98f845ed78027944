// What is open, and how each run stands against the one reference.
#include <algorithm>

#include "diff/report/strip.h"
#include "diff/report/words.h"
#include "viewer/app/commands.h"
#include "viewer/app/spots.h"
#include "viewer/panel.h"

namespace ps::viewer {

namespace {

class RunsPanel final : public Panel {
 public:
  void draw(App& app, Ui& ui) override {
    files(app);
    bool any = false;
    for (std::int64_t i = 0; i < std::ssize(app.session.runs()); ++i)
      any = any || app.session.report(i) != nullptr;
    if (!any) {
      faint_text(
          "Two runs beside each other: open one more trace (open PATH) and a reference (reference "
          "PATH).");
      return;
    }
    ImGui::Spacing();
    table(app, ui);
  }

 private:
  static void file_row(App& app, const Run& run, const std::string& role, std::int64_t index) {
    ImGui::TableNextRow();
    ImGui::TableNextColumn();
    const bool selected = index >= 0 && index == app.state.selection.run;
    if (ImGui::Selectable(role.c_str(), selected, ImGuiSelectableFlags_SpanAllColumns) &&
        index >= 0) {
      (void)app.execute("run " + std::to_string(index));
    }
    if (ImGui::IsItemHovered())
      ImGui::SetTooltip("%s\n%s", run.path.c_str(), run.trace.manifest().producer.c_str());
    cell_text(run.name);
    std::size_t points = 0;
    for (const auto& step : run.points) points += step.size();
    cell_text(std::to_string(run.trace.steps().size()));
    cell_text(std::to_string(points));
    cell_text(std::string(short_name(run.trace.run_dtype())));
    const auto report = index >= 0 ? app.session.report(index) : nullptr;
    cell_text(report == nullptr ? "" : headline(*report));
  }

  static void files(App& app) {
    const ImGuiTableFlags flags =
        ImGuiTableFlags_RowBg | ImGuiTableFlags_BordersInnerV | ImGuiTableFlags_SizingFixedFit;
    if (!ImGui::BeginTable("files", 6, flags)) return;
    for (const char* name : {"what", "name", "steps", "points", "type", "verdict"})
      ImGui::TableSetupColumn(name);
    ImGui::TableHeadersRow();
    if (app.session.report_was_opened()) {
      ImGui::TableNextRow();
      cell_text("report");
      cell_text(app.session.report_name());
      cell_text("");
      cell_text(std::to_string(app.session.report(0)->points.size()));
      cell_text("");
      cell_text(headline(*app.session.report(0)));
    }
    for (std::int64_t i = 0; i < std::ssize(app.session.runs()); ++i) {
      file_row(app, *app.session.run(i), "run " + std::to_string(i), i);
    }
    if (app.session.reference() != nullptr)
      file_row(app, *app.session.reference(), "reference", -1);
    for (std::size_t i = 0; i < app.session.masks().size(); ++i) {
      ImGui::TableNextRow();
      cell_text(i == 0 ? "expected mask" : "actual mask");
      cell_text(app.session.masks()[i]->name);
    }
    ImGui::EndTable();
  }

  // Points where any run is wrong, one column a run: where they part is where to look.
  void update(const App& app) {
    if (version_ == app.session.version()) return;
    version_ = app.session.version();
    spots_.clear();
    for (std::int64_t i = 0; i < std::max<std::int64_t>(1, std::ssize(app.session.runs())); ++i) {
      const auto report = app.session.report(i);
      if (report == nullptr) continue;
      for (Spot& spot : spots_of(*report)) {
        const bool known = std::any_of(spots_.begin(), spots_.end(), [&](const Spot& s) {
          return s.step == spot.step && s.rank == spot.rank && s.point == spot.point;
        });
        if (!known) spots_.push_back(std::move(spot));
      }
    }
    std::stable_sort(spots_.begin(), spots_.end(), [](const Spot& a, const Spot& b) {
      return a.step != b.step ? a.step < b.step : a.rank < b.rank;
    });
  }

  void table(App& app, Ui& ui) {
    update(app);
    const auto runs = std::max<std::int64_t>(1, std::ssize(app.session.runs()));
    if (spots_.empty()) {
      faint_text("No run is wrong anywhere.");
      return;
    }
    const ImGuiTableFlags flags = ImGuiTableFlags_RowBg | ImGuiTableFlags_ScrollY |
                                  ImGuiTableFlags_BordersInnerV | ImGuiTableFlags_SizingFixedFit;
    if (!ImGui::BeginTable("points", static_cast<int>(runs) + 2, flags)) return;
    ImGui::TableSetupScrollFreeze(0, 1);
    ImGui::TableSetupColumn("step");
    ImGui::TableSetupColumn("point");
    for (std::int64_t i = 0; i < runs; ++i) {
      const RunPtr run = app.session.run(i);
      ImGui::TableSetupColumn((run == nullptr ? "report" : run->name).c_str());
    }
    ImGui::TableHeadersRow();
    ImGuiListClipper clipper;
    clipper.Begin(static_cast<int>(spots_.size()));
    while (clipper.Step()) {
      for (int i = clipper.DisplayStart; i < clipper.DisplayEnd; ++i)
        row(app, ui, spots_[static_cast<std::size_t>(i)], runs, i);
    }
    ImGui::EndTable();
  }

  static void row(App& app, Ui& ui, const Spot& spot, std::int64_t runs, int id) {
    const Selection& s = app.state.selection;
    ImGui::TableNextRow();
    cell_text(std::to_string(spot.step));
    ImGui::TableNextColumn();
    ImGui::PushID(id);
    ImGui::PushFont(ui.mono, 0.0f);
    const bool here = s.step == spot.step && s.rank == spot.rank && s.point == spot.point;
    if (ImGui::Selectable(spot.point.c_str(), here, ImGuiSelectableFlags_SpanAllColumns)) {
      if (s.step != spot.step) (void)app.execute("step " + std::to_string(spot.step));
      if (s.rank != spot.rank) (void)app.execute("rank " + std::to_string(spot.rank));
      (void)app.execute("go " + as_word(spot.point));
    }
    ImGui::PopFont();
    ImGui::PopID();
    for (std::int64_t i = 0; i < runs; ++i) {
      ImGui::TableNextColumn();
      const auto report = app.session.report(i);
      if (report == nullptr) continue;
      for (const PointRow& row : report->points) {
        if (row.step != spot.step || row.rank != spot.rank || row.point != spot.point) continue;
        const std::string text = std::string(to_string(row.status)) + "  " + ratio_text(row.ratio);
        if (is_bad(row)) {
          ImGui::TextColored(kWrongInk, "%s", text.c_str());
        } else {
          ImGui::TextDisabled("%s", text.c_str());
        }
        break;
      }
    }
  }

  std::uint64_t version_ = ~std::uint64_t{0};
  std::vector<Spot> spots_;
};

}  // namespace

std::unique_ptr<Panel> make_runs_panel() { return std::make_unique<RunsPanel>(); }

}  // namespace ps::viewer
