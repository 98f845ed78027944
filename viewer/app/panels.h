// The names of panels and layouts, known without a window: commands and links check theirs here.
#pragma once

#include <array>
#include <span>
#include <string_view>

namespace ps::viewer {

struct PanelInfo {
  std::string_view name;   // "kv": in commands, links and the file panels/kv.cpp
  std::string_view title;  // "KV cache"
  std::string_view help;
};
std::span<const PanelInfo> panel_table();
const PanelInfo* find_panel(std::string_view name);

// Four places, each with panels as tabs; the first is in front. A panel that is in none is closed
// until somebody asks for it.
struct LayoutInfo {
  std::string_view name;
  std::string_view title;
  std::string_view help;
  std::string_view main, below, right, corner;  // panel names between blanks
  float share;                                  // of the width that the places on the right have
};
std::span<const LayoutInfo> layout_table();
const LayoutInfo* find_layout(std::string_view name);

}  // namespace ps::viewer
