#include "viewer/ui/keys.h"

#include <array>

#include "viewer/app/commands.h"

namespace ps::viewer {

ImGuiKeyChord chord_of(std::string_view text) {
  ImGuiKeyChord chord = 0;
  constexpr std::array<std::pair<std::string_view, ImGuiKeyChord>, 3> kMods = {
      {{"Ctrl+", ImGuiMod_Ctrl}, {"Shift+", ImGuiMod_Shift}, {"Alt+", ImGuiMod_Alt}}};
  for (bool again = true; again;) {
    again = false;
    for (const auto& [name, mod] : kMods) {
      if (!text.starts_with(name) || text.size() == name.size()) continue;
      text.remove_prefix(name.size());
      chord |= mod;
      again = true;
    }
  }
  for (int key = ImGuiKey_NamedKey_BEGIN; key < ImGuiKey_GamepadStart; ++key) {
    if (text == ImGui::GetKeyName(static_cast<ImGuiKey>(key))) return chord | key;
  }
  return ImGuiKey_None;
}

const std::vector<std::pair<ImGuiKeyChord, std::string>>& bound_chords() {
  static const std::vector<std::pair<ImGuiKeyChord, std::string>> chords = [] {
    std::vector<std::pair<ImGuiKeyChord, std::string>> out;
    for (const KeyBinding& binding : key_bindings()) {
      out.emplace_back(chord_of(binding.key), binding.line);
    }
    return out;
  }();
  return chords;
}

std::string readable_key(std::string_view text) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 13> kNames = {
      {{"Shift+Slash", "?"},
       {"Shift+Equal", "+"},
       {"LeftBracket", "["},
       {"RightBracket", "]"},
       {"Period", "."},
       {"Comma", ","},
       {"Slash", "/"},
       {"Equal", "="},
       {"Minus", "-"},
       {"LeftArrow", "Left"},
       {"RightArrow", "Right"},
       {"UpArrow", "Up"},
       {"DownArrow", "Down"}}};
  for (const auto& [name, readable] : kNames) {
    if (text.ends_with(name)) {
      return std::string(text.substr(0, text.size() - name.size())) + std::string(readable);
    }
  }
  return std::string(text);
}

}  // namespace ps::viewer
