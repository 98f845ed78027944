#include "viewer/app/panels.h"

namespace ps::viewer {

namespace {

constexpr auto kPanels = std::to_array<PanelInfo>({
#define PS_PANEL(name, title, help) {#name, title, help},
#include "viewer/panels.def"
#undef PS_PANEL
});

constexpr auto kLayouts = std::to_array<LayoutInfo>({
#define PS_LAYOUT(name, title, help, main, below, right, corner, share) \
  {#name, title, help, main, below, right, corner, share},
#include "viewer/layouts.def"
#undef PS_LAYOUT
});

}  // namespace

std::span<const PanelInfo> panel_table() { return kPanels; }
std::span<const LayoutInfo> layout_table() { return kLayouts; }

const PanelInfo* find_panel(std::string_view name) {
  for (const PanelInfo& panel : kPanels) {
    if (panel.name == name) return &panel;
  }
  return nullptr;
}
const LayoutInfo* find_layout(std::string_view name) {
  for (const LayoutInfo& layout : kLayouts) {
    if (layout.name == name) return &layout;
  }
  return nullptr;
}

}  // namespace ps::viewer
