// Dear ImGui is compiled once, with the calls that its Test Engine listens to. The viewer has no
// engine: it answers them with nothing. The test program links the engine instead of this file.
#include <imgui.h>
#include <imgui_internal.h>

// NOLINTBEGIN(readability-identifier-naming, readability-inconsistent-declaration-parameter-name)
void ImGuiTestEngineHook_ItemAdd(ImGuiContext*, ImGuiID, const ImRect&, const ImGuiLastItemData*) {}
void ImGuiTestEngineHook_ItemInfo(ImGuiContext*, ImGuiID, const char*, ImGuiItemStatusFlags) {}
void ImGuiTestEngineHook_Log(ImGuiContext*, const char*, ...) {}
const char* ImGuiTestEngine_FindItemDebugLabel(ImGuiContext*, ImGuiID) { return nullptr; }
// NOLINTEND(readability-identifier-naming, readability-inconsistent-declaration-parameter-name)
