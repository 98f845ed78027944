// What is said when nothing is open, and the page of all commands and keys.
#include <algorithm>

#include <imgui.h>

#include "viewer/app/commands.h"
#include "viewer/ui/keys.h"
#include "viewer/ui/shell.h"

namespace ps::viewer {

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

}  // namespace ps::viewer
