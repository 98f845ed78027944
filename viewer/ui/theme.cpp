#include "viewer/ui/theme.h"

#include <cstdio>

#define PS_INCBIN(name, path)                                                                   \
  __asm__(".section .rodata\n.balign 16\n.globl ps_font_" #name "\n.hidden ps_font_" #name      \
          "\nps_font_" #name ":\n.incbin \"" path "\"\n.globl ps_font_" #name                   \
          "_end\n.hidden ps_font_" #name "_end\nps_font_" #name "_end:\n.byte 0\n.previous\n"); \
  extern "C" {                                                                                  \
  extern unsigned char ps_font_##name[];     /* NOLINT(readability-identifier-naming) */        \
  extern unsigned char ps_font_##name##_end; /* NOLINT(readability-identifier-naming) */        \
  }

PS_INCBIN(text, PS_FONT_TEXT)
PS_INCBIN(mono, PS_FONT_MONO)

namespace ps::viewer {

namespace {

constexpr float kFontSize = 15;

ImFont* font_of(unsigned char* begin, const unsigned char* end, const char* name,
                bool only_what_is_missing = false) {
  ImFontConfig config;
  config.FontDataOwnedByAtlas = false;
  config.MergeMode = only_what_is_missing;
  config.OversampleH = 1;  // whole pixels: nearest texels are then exact
  config.OversampleV = 1;
  config.PixelSnapH = true;
  std::snprintf(config.Name, sizeof config.Name, "%s", name);
  return ImGui::GetIO().Fonts->AddFontFromMemoryTTF(begin, static_cast<int>(end - begin), kFontSize,
                                                    &config);
}

}  // namespace

void add_fonts(Ui& ui) {
  ui.text = font_of(ps_font_text, &ps_font_text_end, "text");
  font_of(ps_font_mono, &ps_font_mono_end, "signs that it lacks", true);
  ui.mono = font_of(ps_font_mono, &ps_font_mono_end, "mono");
}

void apply_theme(double scale) {
  ImGuiStyle style;
  ImGui::StyleColorsDark(&style);
  style.FontSizeBase = kFontSize;
  style.WindowRounding = style.TabRounding = style.FrameRounding = style.GrabRounding = 3;
  style.PopupRounding = style.ChildRounding = 4;
  style.FramePadding = ImVec2(8, 4);
  style.ItemSpacing = ImVec2(8, 6);
  style.WindowPadding = ImVec2(10, 8);
  style.CellPadding = ImVec2(6, 3);
  style.ScrollbarSize = 13;
  style.DockingSeparatorSize = 3;
  style.WindowMenuButtonPosition = ImGuiDir_None;
  style.AntiAliasedLinesUseTex = false;  // lines by texture need filtering, which pictures have not
  const auto set = [&](ImGuiCol which, unsigned rgb, float alpha = 1) {
    style.Colors[which] =
        ImVec4(static_cast<float>(rgb >> 16 & 255) / 255, static_cast<float>(rgb >> 8 & 255) / 255,
               static_cast<float>(rgb & 255) / 255, alpha);
  };
  set(ImGuiCol_Text, 0xe6e8eb);
  set(ImGuiCol_TextDisabled, 0x9aa3ad);
  set(ImGuiCol_WindowBg, 0x16191d);
  set(ImGuiCol_ChildBg, 0x16191d, 0);
  set(ImGuiCol_PopupBg, 0x1e2329);
  set(ImGuiCol_Border, 0x353c45);
  set(ImGuiCol_FrameBg, 0x252b33);
  set(ImGuiCol_FrameBgHovered, 0x303842);
  set(ImGuiCol_FrameBgActive, 0x3a4450);
  set(ImGuiCol_TitleBg, 0x101316);
  set(ImGuiCol_TitleBgActive, 0x101316);
  set(ImGuiCol_TitleBgCollapsed, 0x101316);
  set(ImGuiCol_MenuBarBg, 0x101316);
  set(ImGuiCol_Button, 0x2b323b);
  set(ImGuiCol_ButtonHovered, 0x39434f);
  set(ImGuiCol_ButtonActive, 0x2f6aa8);
  set(ImGuiCol_Header, 0x26435f);
  set(ImGuiCol_HeaderHovered, 0x2f4a66);
  set(ImGuiCol_HeaderActive, 0x2f6aa8);
  set(ImGuiCol_Tab, 0x1b2026);
  set(ImGuiCol_TabHovered, 0x2f4a66);
  set(ImGuiCol_TabSelected, 0x2a3440);
  set(ImGuiCol_TabSelectedOverline, 0x5aa0e0);
  set(ImGuiCol_TabDimmed, 0x16191d);
  set(ImGuiCol_TabDimmedSelected, 0x222932);
  set(ImGuiCol_TabDimmedSelectedOverline, 0x46586c);
  set(ImGuiCol_Separator, 0x353c45);
  set(ImGuiCol_CheckMark, 0x7ab8f0);
  set(ImGuiCol_SliderGrab, 0x2f6aa8);
  set(ImGuiCol_SliderGrabActive, 0x3b7cc0);
  set(ImGuiCol_TableHeaderBg, 0x20262d);
  set(ImGuiCol_TableRowBgAlt, 0xffffff, 0.025f);
  set(ImGuiCol_TableBorderLight, 0x2a3037);
  set(ImGuiCol_TableBorderStrong, 0x353c45);
  set(ImGuiCol_DockingEmptyBg, 0x101316);
  style.ScaleAllSizes(static_cast<float>(scale));
  style.FontScaleMain = static_cast<float>(scale);
  ImGui::GetStyle() = style;
}

}  // namespace ps::viewer
