// The menus, the tools below them, and the line at the bottom.
#include <algorithm>
#include <utility>

#include <imgui.h>
#include <imgui_internal.h>

#include "viewer/app/commands.h"
#include "viewer/app/panels.h"
#include "viewer/ui/shell.h"

namespace ps::viewer {

namespace {

// "step 0  rank 0  model.layers.1.self_attn:probs  head=3 query=7"
std::string place_words(const App& app) {
  const Selection& s = app.state.selection;
  if (s.point.empty()) {
    if (app.session.masks().empty()) return "nothing selected";
    std::string out = "mask";
    for (const char* axis : {"batch", "head", "query", "key"})
      out += std::string("  ") + axis + "=" + std::to_string(s.at(axis));
    return out;
  }
  std::string out = "step " + std::to_string(s.step);
  if (app.session.ranks().size() > 1) out += "  rank " + std::to_string(s.rank);
  out += "   " + s.point + "  ";
  const TensorView* tensor = app.session.shown(s.run, s.step, s.rank, s.point);
  if (tensor == nullptr) {
    for (const auto& [axis, at] : s.cell) out += " " + axis + "=" + std::to_string(at);
    return out;
  }
  for (const NamedAxis& a : app.session.axes(s.step, s.rank, s.point, tensor->shape)) {
    out += " " + a.name + "=" + std::to_string(s.at(a.name, a.size));
  }
  return out;
}

}  // namespace

void Shell::menus() {
  if (!ImGui::BeginMainMenuBar()) return;
  const auto item = [&](const char* label, const std::string& line, bool on = false) {
    std::string key;
    for (const KeyBinding& binding : key_bindings()) {
      if (binding.line == line && key.empty()) key = binding.key;
    }
    if (ImGui::MenuItem(label, key.c_str(), on)) (void)app_.execute(line);
  };
  if (ImGui::BeginMenu("File")) {
    item("Open...", "palette open");
    item("Compare with...", "palette reference");
    item("Save picture", "picture");
    item("Copy link", "link");
    item("Close", "close");
    ImGui::Separator();
    item("Quit", "quit");
    ImGui::EndMenu();
  }
  if (ImGui::BeginMenu("Go")) {
    for (const char* name : {"first", "next", "previous", "worst"}) {
      item(find_command(name)->help.data(), name);
    }
    ImGui::Separator();
    item("Undo", "undo");
    item("Redo", "redo");
    item("Find...", "palette");
    ImGui::EndMenu();
  }
  if (ImGui::BeginMenu("Panels")) {
    for (const PanelInfo& panel : panel_table()) {
      const bool on = is_open(panel.name);
      if (ImGui::MenuItem(panel.title.data(), nullptr, on)) {
        if (on) {
          open_[std::string(panel.name)] = false;
        } else {
          (void)app_.execute("panel " + std::string(panel.name));
        }
      }
      if (ImGui::IsItemHovered()) ImGui::SetTooltip("%s", panel.help.data());
    }
    ImGui::EndMenu();
  }
  if (ImGui::BeginMenu("Layout")) {
    for (const LayoutInfo& layout : layout_table()) {
      item(layout.title.data(), "layout " + std::string(layout.name),
           app_.state.layout == layout.name);
    }
    ImGui::Separator();
    if (ImGui::MenuItem("As it was at first")) {
      std::error_code ignored;
      std::filesystem::remove(layout_file(shown_layout_), ignored);
      app_.requests.layout = true;
    }
    ImGui::EndMenu();
  }
  if (ImGui::BeginMenu("View")) {
    for (const double scale : {1.0, 1.25, 1.5, 2.0, 2.5}) {
      const std::string label = std::to_string(static_cast<int>(scale * 100)) + " %";
      item(label.c_str(), "scale " + text_of(scale), app_.state.display.scale == scale);
    }
    ImGui::Separator();
    for (const char* map : {"cividis", "viridis", "gray"}) {
      item(map, std::string("map ") + map, to_string(app_.state.display.map) == map);
    }
    item("Logarithmic colours", "log toggle", app_.state.display.log_range);
    ImGui::Separator();
    item("All settings as at the start", "reset");
    ImGui::EndMenu();
  }
  if (ImGui::MenuItem("Help")) (void)app_.execute("help");
  const std::string title = app_.session.title();
  const float room = ImGui::GetContentRegionAvail().x - ImGui::GetFontSize();
  const std::string shown = fitted(title, std::max(room, 0.0f));
  ImGui::SetCursorPosX(ImGui::GetCursorPosX() +
                       std::max(0.0f, room - ImGui::CalcTextSize(shown.c_str()).x));
  ImGui::TextDisabled("%s", shown.c_str());
  ImGui::EndMainMenuBar();
}

void Shell::toolbar() {
  if (app_.session.empty()) return;
  const float height = ImGui::GetFrameHeight() + ImGui::GetStyle().WindowPadding.y * 1.2f;
  const ImGuiWindowFlags flags =
      ImGuiWindowFlags_NoDecoration | ImGuiWindowFlags_NoSavedSettings | ImGuiWindowFlags_NoDocking;
  ImGui::PushStyleVar(
      ImGuiStyleVar_WindowPadding,
      ImVec2(ImGui::GetStyle().WindowPadding.x, ImGui::GetStyle().WindowPadding.y * 0.6f));
  if (ImGui::BeginViewportSideBar("##toolbar", ImGui::GetMainViewport(), ImGuiDir_Up, height,
                                  flags)) {
    const State& state = app_.state;
    choice(app_, to_string(app_.mode()),
           {{"expected", "mode expected"}, {"actual", "mode actual"}, {"diff", "mode diff"}});
    if (!app_.session.only_masks()) {
      ImGui::SameLine(0, ImGui::GetFontSize());
      choice(app_, to_string(state.display.metric),
             {{"ratio", "metric ratio"},
              {"abs", "metric abs"},
              {"rel", "metric rel"},
              {"ulp", "metric ulp"}});
    }
    ImGui::SameLine(0, ImGui::GetFontSize());
    command_button(app_, "|<##first", "first");
    ImGui::SameLine(0, scaled(1));
    command_button(app_, "<##previous", "previous");
    ImGui::SameLine(0, scaled(1));
    command_button(app_, ">##next", "next");
    const std::vector<std::int64_t> steps = app_.session.steps();
    ImGui::SameLine(0, ImGui::GetFontSize());
    // Where the window is narrow, the slider is: PageUp and PageDown do the same.
    const float room = ImGui::GetContentRegionAvail().x - ImGui::CalcTextSize("step ").x;
    if (steps.size() > 1 && room > ImGui::GetFontSize() * 4) {
      ImGui::AlignTextToFramePadding();
      ImGui::TextUnformatted("step");
      ImGui::SameLine();
      ImGui::SetNextItemWidth(std::min(room, ImGui::GetFontSize() * 10));
      int at = static_cast<int>(std::lower_bound(steps.begin(), steps.end(), state.selection.step) -
                                steps.begin());
      at = std::min(at, static_cast<int>(steps.size()) - 1);
      const std::string words = std::to_string(steps[static_cast<std::size_t>(at)]) + " of " +
                                std::to_string(steps.front()) + "-" + std::to_string(steps.back());
      if (ImGui::SliderInt("##step", &at, 0, static_cast<int>(steps.size()) - 1, words.c_str(),
                           ImGuiSliderFlags_NoInput)) {
        (void)app_.execute_merged("step " + std::to_string(steps[static_cast<std::size_t>(at)]));
      }
    }
    if (app_.session.runs().size() > 1) {
      ImGui::SameLine(0, ImGui::GetFontSize());
      std::vector<std::pair<std::string, std::string>> runs;
      for (std::size_t i = 0; i < app_.session.runs().size(); ++i) {
        runs.emplace_back(app_.session.runs()[i]->name + "##run" + std::to_string(i),
                          "run " + std::to_string(i));
      }
      const auto now = static_cast<std::size_t>(
          std::clamp<std::int64_t>(state.selection.run, 0, std::ssize(runs) - 1));
      choice(app_, runs[now].first, runs);
    }
  }
  ImGui::End();
  ImGui::PopStyleVar();
}

void Shell::status_bar() {
  const ImGuiWindowFlags flags =
      ImGuiWindowFlags_NoDecoration | ImGuiWindowFlags_NoSavedSettings | ImGuiWindowFlags_NoDocking;
  const float height = ImGui::GetTextLineHeight() + ImGui::GetStyle().WindowPadding.y * 1.2f;
  ImGui::PushStyleVar(
      ImGuiStyleVar_WindowPadding,
      ImVec2(ImGui::GetStyle().WindowPadding.x, ImGui::GetStyle().WindowPadding.y * 0.6f));
  if (ImGui::BeginViewportSideBar("##status", ImGui::GetMainViewport(), ImGuiDir_Down, height,
                                  flags)) {
    const float room = ImGui::GetContentRegionAvail().x;
    const LogLine* last = app_.log().empty() ? nullptr : &app_.log().back();
    const bool failed = last != nullptr && last->kind == LogLine::Kind::kError;
    std::string right = failed ? last->text : app_.jobs.label();
    right = fitted(right, room * 0.55f);
    const std::string left = app_.session.empty() ? "Ctrl+P: find anything" : place_words(app_);
    ImGui::TextUnformatted(
        fitted(left, room - ImGui::CalcTextSize(right.c_str()).x - ImGui::GetFontSize()).c_str());
    if (!right.empty()) {
      ImGui::SameLine(room - ImGui::CalcTextSize(right.c_str()).x +
                      ImGui::GetStyle().WindowPadding.x);
      ImGui::PushStyleColor(ImGuiCol_Text, failed
                                               ? ImVec4(1, 0.62f, 0.38f, 1)
                                               : ImGui::GetStyleColorVec4(ImGuiCol_TextDisabled));
      ImGui::TextUnformatted(right.c_str());
      ImGui::PopStyleColor();
      if (failed && ImGui::IsItemHovered()) ImGui::SetTooltip("%s", last->text.c_str());
    }
  }
  ImGui::End();
  ImGui::PopStyleVar();
}

}  // namespace ps::viewer
