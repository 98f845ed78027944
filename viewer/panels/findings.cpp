// What is wrong, why, and what to do. A click leads to the spot.
#include <algorithm>

#include "diff/report/link.h"
#include "diff/report/words.h"
#include "viewer/panel.h"

namespace ps::viewer {

namespace {

ImVec4 color_of(Severity severity) {
  if (severity == Severity::kError) return {1, 0.55f, 0.30f, 1};
  if (severity == Severity::kWarning) return {0.95f, 0.80f, 0.35f, 1};
  return {0.55f, 0.78f, 1, 1};
}

class FindingsPanel final : public Panel {
 public:
  void draw(App& app, Ui& ui) override {
    const auto report = app.session.report(app.state.selection.run);
    if (report == nullptr) {
      centred_text(app.session.empty()
                       ? "Nothing is open."
                       : "No findings: a report has them, and so has a trace that is compared "
                         "with another (Ctrl+P, reference PATH).");
      return;
    }
    if (report->findings.empty()) {
      ImGui::PushStyleColor(ImGuiCol_Text, color_of(Severity::kInfo));
      ImGui::TextWrapped("%s", headline(*report).c_str());
      ImGui::PopStyleColor();
      if (!report->points.empty()) faint_text(points_summary(*report));
      if (!report->power)
        faint_text(
            "Two traces were compared. What these inputs could not have shown is known to a check: "
            "parscope check MODEL_DIR --report DIR");
    } else {
      list(app, *report);
      ImGui::Separator();
    }
    if (ImGui::BeginChild("details")) {
      const auto at = app.state.selection.finding;
      const auto shown = at >= 0 && at < std::ssize(report->findings) ? at : std::int64_t{0};
      if (!report->findings.empty()) {
        details(app, ui, *report, report->findings[static_cast<std::size_t>(shown)]);
      }
      limits(*report);
    }
    ImGui::EndChild();
  }

 private:
  static void list(App& app, const Report& report) {
    const float line = ImGui::GetTextLineHeightWithSpacing();
    const float most = ImGui::GetContentRegionAvail().y * 0.4f;
    const float height = std::min(most, line * (static_cast<float>(report.findings.size()) + 0.4f));
    if (ImGui::BeginChild("list", ImVec2(0, std::max(height, line * 1.5f)))) {
      ImGuiListClipper clipper;
      clipper.Begin(static_cast<int>(report.findings.size()));
      while (clipper.Step()) {
        for (int i = clipper.DisplayStart; i < clipper.DisplayEnd; ++i) {
          const Finding& f = report.findings[static_cast<std::size_t>(i)];
          ImGui::PushID(i);
          ImGui::PushStyleColor(ImGuiCol_Text, color_of(f.severity));
          const bool chosen = ImGui::Selectable("##finding", app.state.selection.finding == i,
                                                ImGuiSelectableFlags_SpanAllColumns);
          ImGui::SameLine(0, 0);
          ImGui::TextUnformatted(f.severity == Severity::kError     ? "!"
                                 : f.severity == Severity::kWarning ? "?"
                                                                    : "i");
          ImGui::PopStyleColor();
          ImGui::SameLine();
          ImGui::TextUnformatted(f.id.c_str());
          ImGui::SameLine();
          ImGui::TextDisabled("%s", fitted(f.point, ImGui::GetContentRegionAvail().x).c_str());
          ImGui::PopID();
          if (chosen) (void)app.execute("finding " + std::to_string(i));
        }
      }
    }
    ImGui::EndChild();
  }

  static void details(App& app, Ui& ui, const Report& report, const Finding& f) {
    ImGui::PushStyleColor(ImGuiCol_Text, color_of(f.severity));
    ImGui::TextWrapped("%s  %s", std::string(to_string(f.severity)).c_str(), f.id.c_str());
    ImGui::PopStyleColor();
    ImGui::TextWrapped("%s", f.message.c_str());
    const std::string place = place_text(f);
    if (!place.empty()) {
      ImGui::PushFont(ui.mono, 0.0f);
      ImGui::TextWrapped("%s", place.c_str());
      ImGui::PopFont();
      if (ImGui::Button("Go there")) {
        const auto index = &f - report.findings.data();
        (void)app.execute("finding " + std::to_string(index));
      }
      ImGui::SameLine();
      if (ImGui::Button("Copy link")) {
        app.requests.clipboard = to_string(link_to(app.session.capture(), f));
        app.say(app.requests.clipboard);
      }
    }
    if (!f.fix.empty()) {
      ImGui::Spacing();
      ImGui::TextDisabled("what to do");
      ImGui::TextWrapped("%s", f.fix.c_str());
    }
    if (f.severity != Severity::kInfo) {
      ImGui::Spacing();
      ImGui::TextDisabled("how sure");
      ImGui::TextWrapped("%s", std::string(meaning_of(f.confidence)).c_str());
    }
    if (!f.evidence.empty()) {
      ImGui::Spacing();
      ImGui::TextDisabled("evidence");
      if (ImGui::BeginTable("evidence", 2,
                            ImGuiTableFlags_RowBg | ImGuiTableFlags_SizingStretchProp)) {
        ImGui::TableSetupColumn("name", ImGuiTableColumnFlags_WidthFixed);
        ImGui::TableSetupColumn("value", ImGuiTableColumnFlags_WidthStretch);
        for (const auto& [name, value] : f.evidence) {
          ImGui::TableNextRow();
          ImGui::TableNextColumn();
          ImGui::TextDisabled("%s", name.c_str());
          ImGui::TableNextColumn();
          ImGui::PushFont(ui.mono, 0.0f);
          constexpr std::size_t kMost = 600;
          ImGui::TextWrapped(
              "%s", (value.size() > kMost ? value.substr(0, kMost) + " ..." : value).c_str());
          ImGui::PopFont();
        }
        ImGui::EndTable();
      }
    }
  }

  static void limits(const Report& report) {
    if (report.power) {
      ImGui::Spacing();
      ImGui::TextDisabled("power");
      ImGui::TextWrapped(
          "This run would have shown %.3g %% of the faults that apply to this model.",
          *report.power * 100);
    }
    if (report.blind_spots.empty()) return;
    if (!ImGui::TreeNode("What this run does not show")) return;
    for (const BlindSpot& spot : report.blind_spots) {
      ImGui::BulletText("%s", spot.id.c_str());
      ImGui::Indent();
      faint_text(spot.why);
      ImGui::Unindent();
    }
    ImGui::TreePop();
  }
};

}  // namespace

std::unique_ptr<Panel> make_findings_panel() { return std::make_unique<FindingsPanel>(); }

}  // namespace ps::viewer
