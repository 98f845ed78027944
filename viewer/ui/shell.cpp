#include "viewer/ui/shell.h"

#include <algorithm>
#include <array>
#include <utility>

#include <imgui.h>
#include <imgui_internal.h>

#include "core/file.h"
#include "core/points.h"
#include "viewer/app/commands.h"
#include "viewer/app/panels.h"
#include "viewer/ui/keys.h"
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

// "step 0  rank 0  model.layers.1.self_attn:probs  head=3 query=7"
std::string place_words(const App& app) {
  const Selection& s = app.state.selection;
  if (s.point.empty()) return "nothing selected";
  std::string out = "step " + std::to_string(s.step);
  if (app.session.ranks().size() > 1) out += "  rank " + std::to_string(s.rank);
  out += "   " + s.point + "  ";
  const TensorView* tensor = app.session.actual(s.run, s.step, s.rank, s.point);
  if (tensor == nullptr) tensor = app.session.expected(s.step, s.rank, s.point);
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

std::filesystem::path Shell::layout_file(std::string_view layout) const {
  if (config_.empty() || layout == "solo") return {};
  return config_ / ("layout-" + std::string(layout) + ".ini");
}

void Shell::save_layout() {
  const std::filesystem::path file = layout_file(shown_layout_);
  if (file.empty() || shown_layout_.empty()) return;
  std::string text = "; open:";
  for (const auto& [name, on] : open_) text += on ? " " + name : "";
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
  ImGui::LoadIniSettingsFromMemory(text->c_str() + text->find('\n') + 1);
  build_ = false;
  age_ = 0;
  main_node_ = 0;
  settle_ = 3;
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
    right = ImGui::DockBuilderSplitNode(main, ImGuiDir_Right, 0.34f, nullptr, &main);
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
  build_ = false;
  settle_ = 3;
  // The first of each place is in front; then the one that has the keyboard.
  for (const auto& place : places) {
    if (!place.empty()) front_.push_back(place.front());
  }
  focus_ = app_.state.panel;
  age_ = 0;
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
    const ImGuiID dockspace = ImGui::GetID("parscope_dockspace");
    if (build_) build_layout(dockspace);
    if (main_node_ == 0) main_node_ = dockspace;
    ImGui::DockSpaceOverViewport(dockspace);
    panels();
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
  ImGui::PushStyleVar(ImGuiStyleVar_WindowPadding,
                      ImVec2(10, ImGui::GetStyle().WindowPadding.y * 0.6f));
  if (ImGui::BeginViewportSideBar("##toolbar", ImGui::GetMainViewport(), ImGuiDir_Up, height,
                                  flags)) {
    const State& state = app_.state;
    choice(app_, to_string(app_.mode()),
           {{"expected", "mode expected"}, {"actual", "mode actual"}, {"diff", "mode diff"}});
    ImGui::SameLine(0, ImGui::GetFontSize());
    choice(app_, to_string(state.display.metric),
           {{"ratio", "metric ratio"},
            {"abs", "metric abs"},
            {"rel", "metric rel"},
            {"ulp", "metric ulp"}});
    ImGui::SameLine(0, ImGui::GetFontSize());
    command_button(app_, "|<##first", "first");
    ImGui::SameLine(0, 1);
    command_button(app_, "<##previous", "previous");
    ImGui::SameLine(0, 1);
    command_button(app_, ">##next", "next");
    const std::vector<std::int64_t> steps = app_.session.steps();
    if (steps.size() > 1) {
      ImGui::SameLine(0, ImGui::GetFontSize());
      ImGui::TextUnformatted("step");
      ImGui::SameLine();
      ImGui::SetNextItemWidth(ImGui::GetFontSize() * 10);
      int at = static_cast<int>(std::lower_bound(steps.begin(), steps.end(), state.selection.step) -
                                steps.begin());
      at = std::min(at, static_cast<int>(steps.size()) - 1);
      const std::string words = std::to_string(steps[static_cast<std::size_t>(at)]) + " of " +
                                std::to_string(steps.back());
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
  ImGui::PushStyleVar(ImGuiStyleVar_WindowPadding,
                      ImVec2(10, ImGui::GetStyle().WindowPadding.y * 0.6f));
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
      ImGui::SameLine(room - ImGui::CalcTextSize(right.c_str()).x + 10);
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

void Shell::panels() {
  const auto table = panel_table();
  // Windows that are new bring themselves to the front; the order is set once they are all there.
  const bool all_there = ++age_ > 2;
  std::erase_if(front_, [&](const std::string& name) { return !is_open(name); });
  if (!is_open(focus_)) focus_.clear();
  for (std::size_t i = 0; i < table.size(); ++i) {
    const std::string name(table[i].name);
    const auto found = open_.find(name);
    if (found == open_.end() || !found->second) continue;
    const bool to_front = all_there && !front_.empty() && front_.front() == name;
    const bool to_focus = all_there && front_.empty() && focus_ == name;
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
  if (!front_.empty() || !focus_.empty()) settle_ = std::max(settle_, 1);
}

void Shell::help_window() {
  if (!help_) return;
  const ImGuiViewport* viewport = ImGui::GetMainViewport();
  const ImVec2 size(std::min(viewport->WorkSize.x * 0.9f, ImGui::GetFontSize() * 62),
                    viewport->WorkSize.y * 0.85f);
  ImGui::SetNextWindowSize(size, ImGuiCond_Appearing);
  ImGui::SetNextWindowPos(ImVec2(viewport->WorkPos.x + (viewport->WorkSize.x - size.x) / 2,
                                 viewport->WorkPos.y + (viewport->WorkSize.y - size.y) / 2),
                          ImGuiCond_Appearing);
  if (ImGui::Begin("Commands and keys###help", &help_,
                   ImGuiWindowFlags_NoDocking | ImGuiWindowFlags_NoCollapse |
                       ImGuiWindowFlags_NoSavedSettings)) {
    ImGui::TextWrapped(
        "Every command can be typed into the palette (Ctrl+P) and into the log. Hold Space to see "
        "the expected values. Wheel zooms, dragging moves, a click selects.");
    if (ImGui::BeginTable(
            "commands", 3,
            ImGuiTableFlags_RowBg | ImGuiTableFlags_ScrollY | ImGuiTableFlags_BordersInnerV)) {
      ImGui::TableSetupScrollFreeze(0, 1);
      ImGui::TableSetupColumn("command", ImGuiTableColumnFlags_WidthFixed,
                              ImGui::GetFontSize() * 17);
      ImGui::TableSetupColumn("keys", ImGuiTableColumnFlags_WidthFixed, ImGui::GetFontSize() * 15);
      ImGui::TableSetupColumn("what it does");
      ImGui::TableHeadersRow();
      for (const CommandInfo& command : command_table()) {
        ImGui::TableNextRow();
        ImGui::TableNextColumn();
        ImGui::PushFont(ui_.mono, 0.0f);
        ImGui::TextUnformatted(command.name.data());
        ImGui::PopFont();
        if (!command.arguments.empty()) {
          ImGui::SameLine();
          ImGui::TextDisabled("%s", command.arguments.data());
        }
        ImGui::TableNextColumn();
        std::string keys;
        for (const KeyBinding& binding : key_bindings()) {
          if (binding.command != &command) continue;
          const std::string_view rest = std::string_view(binding.line).substr(command.name.size());
          keys += (keys.empty() ? "" : ",  ") + readable_key(binding.key) +
                  (rest.empty() ? "" : ":" + std::string(rest));
        }
        ImGui::TextWrapped("%s", keys.c_str());
        ImGui::TableNextColumn();
        ImGui::TextWrapped("%s", command.help.data());
      }
      ImGui::EndTable();
    }
  }
  ImGui::End();
}

void Shell::empty_state() {
  const ImGuiViewport* viewport = ImGui::GetMainViewport();
  ImGui::SetNextWindowPos(viewport->WorkPos);
  ImGui::SetNextWindowSize(viewport->WorkSize);
  if (ImGui::Begin("##empty", nullptr,
                   ImGuiWindowFlags_NoDecoration | ImGuiWindowFlags_NoDocking |
                       ImGuiWindowFlags_NoSavedSettings | ImGuiWindowFlags_NoBringToFrontOnFocus)) {
    centred_text(
        "Nothing is open.\n\n"
        "Drop a trace, a report, a mask program or a .safetensors file onto this window, or press "
        "Ctrl+P and type  open PATH.\n\n"
        "Made by:\n"
        "    parscope check MODEL_DIR --report DIR\n"
        "    parscope trace MODEL_DIR --engine model -o DIR");
  }
  ImGui::End();
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
