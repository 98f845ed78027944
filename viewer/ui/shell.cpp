#include "viewer/ui/shell.h"

#include <algorithm>
#include <utility>

#include <imgui.h>
#include <imgui_internal.h>

#include "viewer/app/commands.h"
#include "viewer/app/panels.h"
#include "viewer/ui/keys.h"
#include "viewer/ui/theme.h"

namespace ps::viewer {

std::string window_title(std::string_view panel) {
  const PanelInfo* info = find_panel(panel);
  return (info == nullptr ? std::string(panel) : std::string(info->title)) + "###" +
         std::string(panel);
}

Shell::Shell(App& app, std::filesystem::path config) : app_(app), config_(std::move(config)) {
#define PS_PANEL(name, title, help) panels_.push_back(make_##name##_panel());
#include "viewer/panels.def"
#undef PS_PANEL
  add_fonts(ui_);
}
Shell::~Shell() = default;

bool Shell::is_open(std::string_view panel) const {
  const auto found = open_.find(panel);
  return found != open_.end() && found->second;
}

void Shell::draw() {
  if (app_.jobs.poll()) settle_ = std::max(settle_, 1);
  app_.refresh();
  const State before = app_.state;
  if (settle_ > 0) --settle_;
  keys();
  app_.peek = ImGui::IsKeyDown(ImGuiKey_Space) && !ImGui::GetIO().WantTextInput && !palette_.open();
  menus();
  toolbar();
  status_bar();
  if (app_.session.empty()) {
    empty_state();
  } else {
    // How high the bars are is known a frame after they were drawn. A layout that was split before
    // would stand elsewhere than the same layout made later.
    const ImVec2 room = ImGui::GetMainViewport()->WorkSize;
    const bool settled = room.x == room_.x && room.y == room_.y;
    room_ = room;
    if (build_ && !settled) {
      settle_ = std::max(settle_, 2);
    } else {
      const ImGuiID dockspace = ImGui::GetID("parscope_dockspace");
      if (build_) build_layout(dockspace);
      if (main_node_ == 0) main_node_ = dockspace;
      keep_shares(dockspace, room);
      ImGui::DockSpaceOverViewport(dockspace);
      panels();
      tell_open_panels();
    }
  }
  palette_.draw(app_);
  help_window();
  answer_requests();
  if (!(before == app_.state)) settle_ = std::max(settle_, 2);
}

void Shell::keys() {
  const bool popup =
      ImGui::IsPopupOpen(nullptr, ImGuiPopupFlags_AnyPopupId | ImGuiPopupFlags_AnyPopupLevel);
  if (ImGui::GetIO().WantTextInput || popup) return;
  if (help_ && ImGui::IsKeyPressed(ImGuiKey_Escape)) help_ = false;
  if (palette_.open()) return;
  for (const auto& [chord, line] : bound_chords()) {
    if (ImGui::IsKeyChordPressed(chord, ImGuiInputFlags_Repeat)) (void)app_.execute(line);
  }
}

void Shell::panels() {
  const auto table = panel_table();
  // Windows that are new bring themselves to the front; the order is set once they are all there.
  const bool all_there = ++age_ > 2;
  std::erase_if(front_, [&](const std::string& name) { return !is_open(name); });
  if (!is_open(focus_)) focus_.clear();
  // The bars of tabs are drawn before the windows: they show who has the keyboard a frame later.
  if (!front_.empty() || !focus_.empty()) settle_ = std::max(settle_, 2);
  const std::string front = all_there && !front_.empty() ? front_.front() : "";
  for (std::size_t i = 0; i < table.size(); ++i) {
    const std::string name(table[i].name);
    const auto found = open_.find(name);
    if (found == open_.end() || !found->second) continue;
    // One a frame: of two that ask for it in the same frame, the first would be forgotten.
    const bool to_front = front == name;
    const bool to_focus = all_there && front.empty() && front_.empty() && focus_ == name;
    if (to_focus || to_front) ImGui::SetNextWindowFocus();
    ImGui::SetNextWindowSize(ImVec2(ImGui::GetFontSize() * 40, ImGui::GetFontSize() * 26),
                             ImGuiCond_FirstUseEver);
    if (dock_ == name) {
      ImGui::SetNextWindowDockID(main_node_, ImGuiCond_Always);
      dock_.clear();
    }
    const bool shown =
        ImGui::Begin(window_title(name).c_str(), &found->second, ImGuiWindowFlags_NoCollapse);
    if (to_front) front_.erase(front_.begin());
    if (shown) {
      if (to_focus) focus_.clear();
      const bool clicked = ImGui::IsWindowFocused(ImGuiFocusedFlags_ChildWindows) &&
                           ImGui::IsMouseClicked(ImGuiMouseButton_Left);
      if (clicked && app_.state.layout != "solo") app_.state.panel = name;
      panels_[i]->draw(app_, ui_);
    }
    ImGui::End();
  }
}

void Shell::answer_requests() {
  Requests& wants = app_.requests;
  if (!wants.clipboard.empty()) ImGui::SetClipboardText(std::exchange(wants.clipboard, "").c_str());
  if (std::exchange(wants.toggle_palette, false)) {
    const std::string text = std::exchange(wants.palette_text, "");
    if (text.empty()) {
      palette_.toggle();
    } else {
      palette_.begin(text);
    }
  }
  if (std::exchange(wants.toggle_help, false)) help_ = !help_;
  if (std::exchange(wants.focus, false)) {
    focus_ = app_.state.panel;
    if (!is_open(focus_)) {
      open_[focus_] = true;
      dock_ = focus_;
    }
    settle_ = std::max(settle_, 2);
  }
}

}  // namespace ps::viewer
