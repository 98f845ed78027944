// Keys of the command table as Dear ImGui knows them.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <imgui.h>

namespace ps::viewer {

// "Ctrl+Shift+Z"; ImGuiKey_None for words that are no key.
ImGuiKeyChord chord_of(std::string_view text);
const std::vector<std::pair<ImGuiKeyChord, std::string>>&
bound_chords();  // with the line each runs
// "[" for LeftBracket; what a help page shows.
std::string readable_key(std::string_view text);

}  // namespace ps::viewer
