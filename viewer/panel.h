// A panel: one file panels/<name>.cpp and one line in panels.def. It reads the App and posts
// commands (app.execute); what it keeps for itself is only what can be computed anew.
#pragma once

#include <memory>

#include "viewer/app/app.h"
#include "viewer/ui/ui.h"

namespace ps::viewer {

class Panel {
 public:
  virtual ~Panel() = default;
  // Between ImGui::Begin and End of its window.
  virtual void draw(App& app, Ui& ui) = 0;
};

#define PS_PANEL(name, title, help) std::unique_ptr<Panel> make_##name##_panel();
#include "viewer/panels.def"
#undef PS_PANEL

}  // namespace ps::viewer
