// The steps of a run in a row, to be dragged through: prefill, decode steps, reorders of the cache,
// and in which of them something broke.
#include <algorithm>
#include <cmath>

#include "diff/report/strip.h"
#include "diff/view/step_marks.h"
#include "viewer/app/commands.h"
#include "viewer/data/computed.h"
#include "viewer/panel.h"
#include "viewer/ui/canvas.h"

namespace ps::viewer {

namespace {

struct Key {
  std::uint64_t version = 0;
  std::int64_t run = 0, rank = 0;
  bool operator==(const Key&) const = default;
};

struct Model {
  RunPtr run;
  std::shared_ptr<const Report> report;
  std::vector<view::StepMark> marks;
};

class StepsPanel final : public Panel {
 public:
  void draw(App& app, Ui&) override {
    const Selection& s = app.state.selection;
    const RunPtr run =
        app.session.run(s.run) != nullptr ? app.session.run(s.run) : app.session.reference();
    const auto report = app.session.report(s.run);
    if (run == nullptr && report == nullptr) {
      centred_text("Nothing is open.");
      return;
    }
    const Key key{app.session.version(), s.run, s.rank};
    std::optional<ModelConfig> config;
    if (app.session.config() != nullptr) config = *app.session.config();
    const auto model = models_.get(app, "steps", key, false, [=](const std::stop_token&) {
      auto m = std::make_shared<Model>();
      m->run = run;
      m->report = report;
      m->marks = view::step_marks(run == nullptr ? nullptr : &run->trace,
                                  config ? &*config : nullptr, report.get(), key.rank);
      return std::shared_ptr<const Model>(m);
    });
    if (model == nullptr) {
      centred_text("Following the steps ...");
      return;
    }
    if (model->marks.empty()) {
      centred_text("There is no step of rank " + std::to_string(s.rank) + ".");
      return;
    }
    buttons(app, *model);
    row(app, *model);
    table(app, *model);
  }

 private:
  static const view::StepMark* mark_at(const Model& m, std::int64_t step) {
    for (const view::StepMark& mark : m.marks) {
      if (mark.step == step) return &mark;
    }
    return nullptr;
  }

  static void buttons(App& app, const Model& m) {
    command_button(app, "<", "step -1");
    ImGui::SameLine(0, scaled(2));
    command_button(app, ">", "step +1");
    ImGui::SameLine();
    const auto broken = std::find_if(m.marks.begin(), m.marks.end(),
                                     [](const view::StepMark& x) { return !x.ok(); });
    if (broken != m.marks.end()) {
      command_button(app, "first broken", "step " + std::to_string(broken->step));
      ImGui::SameLine();
    }
    const view::StepMark* now = mark_at(m, app.state.selection.step);
    const auto count = std::count_if(m.marks.begin(), m.marks.end(),
                                     [](const view::StepMark& x) { return !x.ok(); });
    std::string text = now == nullptr ? std::string() : words(*now) + "   ";
    const bool invalid = m.report != nullptr && m.report->verdict == Verdict::kInvalid;
    text += count == 0 && invalid ? "the runs cannot be compared: see Findings"
            : count == 0 ? "no step is broken"
                         : std::to_string(count) + " of " + std::to_string(m.marks.size()) +
                               " steps are broken";
    ImGui::TextDisabled("%s", fitted(text, ImGui::GetContentRegionAvail().x).c_str());
    if (now != nullptr && !now->ok()) {
      const std::string& what = now->cache.empty() ? now->first_wrong : now->cache;
      ImGui::TextColored(ImVec4(1, 0.45f, 0.25f, 1), "%s",
                         fitted(what, ImGui::GetContentRegionAvail().x).c_str());
    }
  }

  static std::string what(const view::StepMark& m) {
    if (m.op == StepOp::kReorderCache) return "beams reorder the cache";
    if (m.op == StepOp::kGenerate) return "generate";
    if (m.tokens <= 0) return "";
    return std::to_string(m.tokens) + (m.tokens == 1 ? " token" : " tokens") + " after " +
           std::to_string(m.past);
  }

  static std::string words(const view::StepMark& m) {
    const std::string does = what(m);
    return "step " + std::to_string(m.step) + (does.empty() ? "" : ": " + does);
  }

  static void row(App& app, const Model& m) {
    const ImVec2 room = ImGui::GetContentRegionAvail(), corner = ImGui::GetCursorScreenPos();
    const float line = ImGui::GetTextLineHeight();
    const auto n = static_cast<float>(m.marks.size());
    const float step = std::min(room.x / n, line * 5);
    const float height = std::clamp(room.y - line - 8, line, line * 3);
    ImGui::InvisibleButton("steps_row", ImVec2(std::max(8.0f, step * n), height));
    const bool hovered = ImGui::IsItemHovered(), held = ImGui::IsItemActive();
    Canvas published;
    published.min = corner;
    published.max = ImVec2(corner.x + step * n, corner.y + height);
    published.rows = 1;
    published.columns = std::ssize(m.marks);
    published.cell_width = step;
    published.cell_height = height;
    publish_canvas("steps", published);
    ImDrawList& list = *ImGui::GetWindowDrawList();
    for (std::size_t i = 0; i < m.marks.size(); ++i) {
      const view::StepMark& mark = m.marks[i];
      const ImVec2 a(corner.x + step * static_cast<float>(i), corner.y),
          b(std::max(a.x + 1, a.x + step - (step > 4 ? 2 : 0)), corner.y + height);
      ImU32 color = mark.op == StepOp::kReorderCache ? IM_COL32(120, 92, 150, 255)
                    : mark.tokens > 1                ? IM_COL32(60, 92, 130, 255)
                                                     : IM_COL32(66, 120, 110, 255);
      if (mark.passed_points > 0) color = IM_COL32(110, 104, 98, 255);
      list.AddRectFilled(a, b, color);
      // At least 3 pixels, so that no broken step is lost among thousands.
      if (!mark.ok())
        list.AddRectFilled(ImVec2(a.x, b.y - height * 0.3f), ImVec2(std::max(b.x, a.x + 3), b.y),
                           IM_COL32(255, 80, 30, 255));
      if (mark.step == app.state.selection.step)
        list.AddRect(ImVec2(a.x - 1, a.y - 1), ImVec2(std::max(b.x, a.x + 3) + 1, b.y + 1),
                     IM_COL32_WHITE);
      const std::string label = std::to_string(mark.step);
      if (step > ImGui::CalcTextSize(label.c_str()).x + 6)
        list.AddText(ImVec2(a.x + 3, a.y + 1), IM_COL32(235, 235, 235, 255), label.c_str());
    }
    if (!hovered && !held) return;
    const auto at = static_cast<std::int64_t>((ImGui::GetIO().MousePos.x - corner.x) / step);
    if (at < 0 || at >= std::ssize(m.marks)) return;
    const view::StepMark& mark = m.marks[static_cast<std::size_t>(at)];
    if (hovered) {
      std::string text = words(mark);
      if (mark.wrong_points > 0)
        text += "\n" + std::to_string(mark.wrong_points) + " points are wrong, first " +
                mark.first_wrong;
      if (mark.passed_points > 0)
        text += "\n" + std::to_string(mark.passed_points) + " points only inherited an error";
      if (!mark.cache.empty()) text += "\n" + mark.cache;
      ImGui::SetTooltip("%s", text.c_str());
    }
    if (held && mark.step != app.state.selection.step)
      (void)app.execute_merged("step " + std::to_string(mark.step));
  }

  // The same in words, where there is room for it.
  void table(App& app, const Model& m) {
    if (ImGui::GetContentRegionAvail().y < ImGui::GetTextLineHeightWithSpacing() * 3) return;
    const ImGuiTableFlags flags =
        ImGuiTableFlags_RowBg | ImGuiTableFlags_ScrollY | ImGuiTableFlags_SizingFixedFit;
    if (!ImGui::BeginTable("steps", 5, flags)) return;
    ImGui::TableSetupScrollFreeze(0, 1);
    for (const char* name : {"step", "what", "wrong", "worst", "first wrong"})
      ImGui::TableSetupColumn(name);
    ImGui::TableHeadersRow();
    ImGuiListClipper clipper;
    clipper.Begin(static_cast<int>(m.marks.size()));
    while (clipper.Step()) {
      for (int i = clipper.DisplayStart; i < clipper.DisplayEnd; ++i)
        table_row(app, m, m.marks[static_cast<std::size_t>(i)]);
    }
    if (shown_ != app.state.selection.step) {
      for (std::size_t i = 0; i < m.marks.size(); ++i) {
        if (m.marks[i].step == app.state.selection.step)
          ImGui::SetScrollY(
              std::max(0.0f, (static_cast<float>(i) - 3) * ImGui::GetTextLineHeightWithSpacing()));
      }
      shown_ = app.state.selection.step;
    }
    ImGui::EndTable();
  }

  static void table_row(App& app, const Model& m, const view::StepMark& mark) {
    ImGui::TableNextRow();
    ImGui::TableNextColumn();
    const std::string number = std::to_string(mark.step);
    if (ImGui::Selectable(number.c_str(), mark.step == app.state.selection.step,
                          ImGuiSelectableFlags_SpanAllColumns))
      (void)app.execute("step " + number);
    cell_text(what(mark));
    cell_text(m.report == nullptr      ? ""
              : mark.wrong_points == 0 ? "-"
                                       : std::to_string(mark.wrong_points));
    cell_text(m.report == nullptr ? "" : ratio_text(mark.ratio));
    ImGui::TableNextColumn();
    const std::string& wrong = mark.cache.empty() ? mark.first_wrong : mark.cache;
    if (!wrong.empty()) ImGui::TextColored(kWrongInk, "%s", wrong.c_str());
  }

  Computed<Key, Model> models_;
  std::int64_t shown_ = -1;
};

}  // namespace

std::unique_ptr<Panel> make_steps_panel() { return std::make_unique<StepsPanel>(); }

}  // namespace ps::viewer
