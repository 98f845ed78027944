#include "viewer/ui/palette.h"

#include <algorithm>
#include <cctype>
#include <cstring>
#include <filesystem>

#include <imgui.h>

#include "viewer/app/commands.h"
#include "viewer/app/panels.h"
#include "viewer/ui/ui.h"

namespace ps::viewer {

namespace {

namespace fs = std::filesystem;

char lower(char c) { return static_cast<char>(std::tolower(static_cast<unsigned char>(c))); }

// Files and folders that continue the path in "open PATH".
void add_files(std::vector<PaletteEntry>& out, std::string_view command, std::string_view path) {
  const std::size_t slash = path.rfind('/');
  const std::string folder(slash == std::string_view::npos ? "" : path.substr(0, slash + 1));
  const std::string_view begun = slash == std::string_view::npos ? path : path.substr(slash + 1);
  std::error_code ignored;
  for (fs::directory_iterator it(folder.empty() ? "." : folder, ignored), end;
       !ignored && it != end; it.increment(ignored)) {
    std::string name = it->path().filename().string();
    if (!name.starts_with(begun) || (name.starts_with(".") && begun.empty())) continue;
    const bool is_folder = it->is_directory(ignored);
    const std::string whole = folder + name + (is_folder ? "/" : "");
    const bool shown = is_folder || name.ends_with(".json") || is_safetensors_name(name);
    if (!shown) continue;
    const bool is_trace = is_folder && (fs::exists(it->path() / "trace.json", ignored) ||
                                        fs::exists(it->path() / "report.json", ignored));
    out.push_back(
        {whole,
         is_trace    ? "open it"
         : is_folder ? "folder"
                     : "",
         std::string(command) + " " + (is_folder && !is_trace ? whole : as_word(folder + name)),
         is_folder ? 1 : 2});
  }
}

}  // namespace

int fuzzy_score(std::string_view text, std::string_view typed) {
  if (typed.empty()) return 0;
  int score = 0, run = 0;
  std::size_t at = 0;
  for (std::size_t i = 0; i < text.size() && at < typed.size(); ++i) {
    if (lower(text[i]) != lower(typed[at])) {
      run = 0;
      continue;
    }
    const bool begins = i == 0 || std::strchr(" ._:-/", text[i - 1]) != nullptr;
    score += 1 + 2 * run + (begins ? 6 : 0) + (i == 0 ? 4 : 0);
    ++run;
    ++at;
  }
  if (at < typed.size()) return -1;
  return std::max(1, score * 4 - static_cast<int>(std::min<std::size_t>(text.size(), 100)) / 4);
}

std::vector<PaletteEntry> palette_entries(const App& app, std::string_view typed,
                                          std::size_t most) {
  std::vector<PaletteEntry> out;
  while (typed.starts_with(" ")) typed.remove_prefix(1);
  if (typed.starts_with("parscope:")) {
    out.push_back({"follow this link", std::string(typed), "follow " + std::string(typed), 1});
    return out;
  }
  for (const std::string_view command : {"open", "reference"}) {
    if (!typed.starts_with(std::string(command) + " ")) continue;
    std::string_view path = typed.substr(command.size() + 1);
    if (path.starts_with("\"")) path.remove_prefix(1);
    if (path.ends_with("\"")) path.remove_suffix(1);
    add_files(out, command, path);
  }
  const auto add = [&](std::string text, std::string hint, std::string line, int bonus) {
    const int score = fuzzy_score(text, typed);
    if (score >= 0)
      out.push_back({std::move(text), std::move(hint), std::move(line), score + bonus});
  };
  for (const CommandInfo& command : command_table()) {
    std::string hint(command.help);
    for (const KeyBinding& key : key_bindings()) {
      if (key.command == &command && key.line == command.name) hint += "   [" + key.key + "]";
    }
    const bool needs = !command.arguments.empty() && !command.arguments.starts_with("[");
    add(std::string(command.name) + (command.arguments.empty() ? "" : " ") +
            std::string(command.arguments),
        hint, std::string(command.name) + (needs ? " " : ""), 3);
  }
  if (!typed.empty()) {
    for (const PanelInfo& p : panel_table()) {
      add("panel " + std::string(p.name), std::string(p.help), "panel " + std::string(p.name), 2);
    }
    for (const LayoutInfo& l : layout_table()) {
      add("layout " + std::string(l.name), std::string(l.help), "layout " + std::string(l.name), 2);
    }
    const Selection& s = app.state.selection;
    for (const std::string& point : app.session.points(s.run, s.step, s.rank)) {
      add(point, "go there", "go " + point, 0);
    }
    // A whole command line runs as it stands.
    const std::string_view word = typed.substr(0, typed.find(' '));
    const bool more = typed.find_first_not_of(' ', word.size()) != std::string_view::npos;
    if (find_command(word) != nullptr && more) {
      out.push_back({std::string(typed), "run", std::string(typed), 1000});
    }
  }
  std::stable_sort(out.begin(), out.end(),
                   [](const PaletteEntry& a, const PaletteEntry& b) { return a.score > b.score; });
  if (out.size() > most) out.resize(most);
  return out;
}

void CommandPalette::toggle() {
  open_ = !open_;
  focus_ = open_;
  typed_ = {};
  seen_ = "\n";
  at_ = 0;
}

void CommandPalette::begin(std::string_view text) {
  if (!open_) toggle();
  text.copy(typed_.data(), typed_.size() - 1);
  focus_ = to_end_ = true;
}

void CommandPalette::run(App& app, const std::string& line) {
  if (line.ends_with(" ") || (line.ends_with("/") && line.find(' ') != std::string::npos)) {
    std::strncpy(typed_.data(), line.c_str(), typed_.size() - 1);
    focus_ = to_end_ = true;
    return;
  }
  open_ = false;
  (void)app.execute(line);
}

void CommandPalette::draw(App& app) {
  if (!open_) return;
  const ImGuiViewport* viewport = ImGui::GetMainViewport();
  const float width = std::min(viewport->Size.x * 0.7f, ImGui::GetFontSize() * 52);
  ImGui::SetNextWindowPos(ImVec2(viewport->Pos.x + (viewport->Size.x - width) / 2,
                                 viewport->Pos.y + viewport->Size.y * 0.12f));
  ImGui::SetNextWindowSize(ImVec2(width, 0));
  if (focus_) ImGui::SetNextWindowFocus();
  const ImGuiWindowFlags flags = ImGuiWindowFlags_NoDecoration | ImGuiWindowFlags_NoDocking |
                                 ImGuiWindowFlags_NoSavedSettings | ImGuiWindowFlags_NoMove |
                                 ImGuiWindowFlags_AlwaysAutoResize;
  if (ImGui::Begin("###palette", nullptr, flags)) {
    if (seen_ != typed_.data() || seen_version_ != app.session.version()) {
      seen_ = typed_.data();
      seen_version_ = app.session.version();
      entries_ = palette_entries(app, seen_);
      at_ = 0;
    }
    if (ImGui::IsKeyPressed(ImGuiKey_DownArrow) && !entries_.empty())
      at_ = (at_ + 1) % entries_.size();
    if (ImGui::IsKeyPressed(ImGuiKey_UpArrow) && !entries_.empty()) {
      at_ = (at_ + entries_.size() - 1) % entries_.size();
    }
    if (focus_) ImGui::SetKeyboardFocusHere();
    focus_ = false;
    ImGui::SetNextItemWidth(-1);
    struct Cursor {
      static int to_end(ImGuiInputTextCallbackData* data) {
        bool& wanted = *static_cast<bool*>(data->UserData);
        if (wanted) {
          data->CursorPos = data->BufTextLen;
          data->ClearSelection();
          wanted = false;
        }
        return 0;
      }
    };
    const bool entered = ImGui::InputTextWithHint(
        "##line", "a command, a point, a file: open ..., go ..., layout ...", typed_.data(),
        typed_.size(), ImGuiInputTextFlags_EnterReturnsTrue | ImGuiInputTextFlags_CallbackAlways,
        &Cursor::to_end, &to_end_);
    std::string line;
    const float list_height = ImGui::GetTextLineHeightWithSpacing() * 14;
    if (ImGui::BeginChild("##entries", ImVec2(0, list_height))) {
      for (std::size_t i = 0; i < entries_.size(); ++i) {
        const PaletteEntry& entry = entries_[i];
        ImGui::PushID(static_cast<int>(i));
        if (ImGui::Selectable(entry.text.c_str(), i == at_)) line = entry.line;
        if (i == at_) ImGui::SetScrollHereY(0.5f);
        if (!entry.hint.empty()) {
          const float left = ImGui::GetFontSize() * 19;
          const float used = ImGui::CalcTextSize(entry.text.c_str()).x + ImGui::GetFontSize();
          ImGui::SameLine(std::max(left, used));
          ImGui::TextDisabled("%s", fitted(entry.hint, ImGui::GetContentRegionAvail().x).c_str());
        }
        ImGui::PopID();
      }
      if (entries_.empty()) ImGui::TextDisabled("nothing fits");
    }
    ImGui::EndChild();
    if (entered) {
      focus_ = true;
      if (at_ < entries_.size()) line = entries_[at_].line;
    }
    if (!line.empty()) run(app, line);
    const bool left = !ImGui::IsWindowFocused(ImGuiFocusedFlags_ChildWindows) && !focus_ &&
                      ImGui::IsMouseClicked(ImGuiMouseButton_Left);
    if (ImGui::IsKeyPressed(ImGuiKey_Escape) || left) open_ = false;
  }
  ImGui::End();
}

}  // namespace ps::viewer
