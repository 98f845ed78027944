// Where the panels stand: layouts, and the files that keep what a user made of them.
#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <string_view>
#include <vector>

#include <imgui.h>
#include <imgui_internal.h>

#include "core/file.h"
#include "viewer/app/panels.h"
#include "viewer/ui/shell.h"
#include "viewer/ui/theme.h"

namespace ps::viewer {

namespace {

std::vector<std::string> names_in(std::string_view list) {
  std::vector<std::string> out;
  while (!list.empty()) {
    const std::string_view word = list.substr(0, list.find(' '));
    list.remove_prefix(std::min(word.size() + 1, list.size()));
    if (!word.empty()) out.emplace_back(word);
  }
  return out;
}

}  // namespace

std::filesystem::path Shell::layout_file(std::string_view layout) const {
  if (config_.empty() || layout == "solo") return {};
  return config_ / ("layout-" + std::string(layout) + ".ini");
}

void Shell::save_layout() {
  const std::filesystem::path file = layout_file(shown_layout_);
  if (file.empty() || shown_layout_.empty()) return;
  std::string text = "; open:";
  for (const auto& [name, on] : open_) text += on ? " " + name : "";
  text += "\n; front:";
  for (const auto& [name, on] : open_) {
    const ImGuiWindow* window = ImGui::FindWindowByName(window_title(name).c_str());
    if (on && window != nullptr && window->DockTabIsVisible) text += " " + name;
  }
  std::size_t size = 0;
  const char* ini = ImGui::SaveIniSettingsToMemory(&size);
  text += "\n" + std::string(ini, size);
  if (!ensure_directory(config_).ok()) return;
  if (const Result<void> done = write_text(file, text); !done.ok()) {
    app_.say(done.error().line(), LogLine::Kind::kError);
  }
}

void Shell::before_frame() {
  ui_.new_frame();
  if (app_.state.display.scale != scale_) {
    scale_ = app_.state.display.scale;
    apply_theme(scale_);
    settle_ = 3;
  }
  const bool other_solo = app_.state.layout == "solo" && shown_solo_ != app_.state.panel;
  if (!app_.requests.layout && shown_layout_ == app_.state.layout && !other_solo) return;
  if (shown_layout_ != app_.state.layout) save_layout();
  app_.requests.layout = false;
  build_ = true;
  shown_layout_ = app_.state.layout;
  shown_solo_ = app_.state.panel;
  const std::filesystem::path file = layout_file(shown_layout_);
  std::error_code ignored;
  if (file.empty() || !std::filesystem::exists(file, ignored)) return;
  const Result<std::string> text = read_text(file, 1 << 20);
  if (!text.ok() || !text->starts_with("; open:")) return;
  for (auto& [name, on] : open_) on = false;
  for (const std::string& name :
       names_in(std::string_view(*text).substr(7, text->find('\n') - 7))) {
    if (find_panel(name) != nullptr) open_[name] = true;
  }
  const std::string_view rest = std::string_view(*text).substr(text->find('\n') + 1);
  front_.clear();
  if (rest.starts_with("; front:")) {
    for (const std::string& name : names_in(rest.substr(8, rest.find('\n') - 8))) {
      if (is_open(name)) front_.push_back(name);
    }
  }
  ImGui::LoadIniSettingsFromMemory(rest.data(), rest.size());
  focus_ = app_.state.panel;
  shared_ = ImVec2();
  build_ = false;
  age_ = 0;
  main_node_ = 0;
  settle_ = 3;
}

namespace {

void scale_parts(ImGuiDockNode* node, float x, float y) {
  for (ImGuiDockNode* child : node->ChildNodes) {
    if (child == nullptr) continue;
    child->SizeRef = ImVec2(std::round(child->SizeRef.x * x), std::round(child->SizeRef.y * y));
    scale_parts(child, x, y);
  }
}

}  // namespace

// All places grow and shrink with the window, also one that was left at another size. Dear ImGui
// would let the main one alone have what remains, which may be nothing.
void Shell::keep_shares(ImGuiID dockspace, ImVec2 room) {
  ImGuiDockNode* root = ImGui::DockBuilderGetNode(dockspace);
  if (root == nullptr) return;
  // Of a layout that was just loaded: the size it was left at, in whole pixels.
  const ImVec2 before = shared_.x > 0 ? shared_ : root->Size;
  shared_ = room;
  if (before.x < 1 || before.y < 1) return;
  if (std::fabs(before.x - room.x) < 1 && std::fabs(before.y - room.y) < 1) return;
  scale_parts(root, room.x / before.x, room.y / before.y);
}

// For `panel +1`: as they stand in the layout, then those that the user added.
void Shell::tell_open_panels() {
  std::vector<std::string>& names = app_.open_panels;
  names.clear();
  const auto add = [&](const std::string& name) {
    if (is_open(name) && std::find(names.begin(), names.end(), name) == names.end())
      names.push_back(name);
  };
  if (const LayoutInfo* layout = find_layout(app_.state.layout)) {
    for (const std::string_view place :
         {layout->main, layout->below, layout->right, layout->corner})
      for (const std::string& name : names_in(place)) add(name);
  }
  for (const PanelInfo& panel : panel_table()) add(std::string(panel.name));
}

void Shell::build_layout(ImGuiID dockspace) {
  const LayoutInfo* layout = find_layout(app_.state.layout);
  if (layout == nullptr) layout = &layout_table().front();
  const ImVec2 size = ImGui::GetMainViewport()->WorkSize;
  ImGui::DockBuilderRemoveNode(dockspace);
  ImGui::DockBuilderAddNode(dockspace, ImGuiDockNodeFlags_DockSpace);
  ImGui::DockBuilderSetNodeSize(dockspace, size);
  std::array<std::vector<std::string>, 4> places = {names_in(layout->main), names_in(layout->below),
                                                    names_in(layout->right),
                                                    names_in(layout->corner)};
  if (layout->name == "solo") places = {std::vector<std::string>{app_.state.panel}, {}, {}, {}};
  ImGuiID main = dockspace, below = 0, right = 0, corner = 0;
  if (!places[2].empty() || !places[3].empty()) {
    right = ImGui::DockBuilderSplitNode(main, ImGuiDir_Right, layout->share, nullptr, &main);
    if (!places[3].empty()) {
      corner = ImGui::DockBuilderSplitNode(right, ImGuiDir_Down, 0.35f, nullptr, &right);
    }
  }
  if (!places[1].empty()) {
    below = ImGui::DockBuilderSplitNode(main, ImGuiDir_Down, 0.5f, nullptr, &main);
  }
  for (auto& [name, on] : open_) on = false;
  const std::array<ImGuiID, 4> nodes = {main, below, right, corner};
  for (std::size_t i = 0; i < places.size(); ++i) {
    for (const std::string& name : places[i]) {
      open_[name] = true;
      ImGui::DockBuilderDockWindow(window_title(name).c_str(), nodes[i]);
    }
  }
  ImGui::DockBuilderFinish(dockspace);
  main_node_ = main;
  shared_ = size;
  build_ = false;
  settle_ = 3;
  // The first of each place is in front; then the one that has the keyboard.
  for (const auto& place : places) {
    if (!place.empty()) front_.push_back(place.front());
  }
  focus_ = app_.state.panel;
  age_ = 0;
}

}  // namespace ps::viewer
