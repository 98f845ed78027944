// The window's inside: bars, docked panels, keys, palette, help. It draws one App, whatever shows
// it in the end: a window, a picture, a test.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "viewer/panel.h"
#include "viewer/ui/palette.h"
#include "viewer/ui/ui.h"

namespace ps::viewer {

class Shell {
 public:
  // Layouts that the user has changed are kept in `config`; empty: nothing is kept.
  explicit Shell(App& app, std::filesystem::path config = {});
  ~Shell();

  void before_frame();  // outside of NewFrame and Render
  void draw();          // between them
  void save_layout();

  bool is_open(std::string_view panel) const;
  bool palette_open() const { return palette_.open(); }
  bool help_open() const { return help_; }
  // Whether another frame is due without an event: something is on its way.
  bool wants_frame() const { return settle_ > 0; }
  Ui& ui() { return ui_; }

 private:
  void keys();
  void menus();
  void toolbar();
  void status_bar();
  void build_layout(ImGuiID dockspace);
  void keep_shares(ImGuiID dockspace, ImVec2 room);
  void panels();
  void tell_open_panels();
  void help_window();
  void empty_state();
  void answer_requests();
  std::filesystem::path layout_file(std::string_view layout) const;

  App& app_;
  Ui ui_;
  std::filesystem::path config_;
  std::vector<std::unique_ptr<Panel>> panels_;  // as panel_table()
  std::map<std::string, bool, std::less<>> open_;
  std::string shown_layout_, shown_solo_;
  CommandPalette palette_;
  double scale_ = 0;
  ImGuiID main_node_ = 0;
  ImVec2 room_;    // between the bars, in the frame before
  ImVec2 shared_;  // what the places' sizes are shares of; 0: not known yet
  bool help_ = false;
  bool build_ = true;
  std::string focus_, dock_;        // panels to be given the keyboard, and a place
  std::vector<std::string> front_;  // panels to be brought to the front of their place, in order
  int age_ = 0;                     // frames since the panels were laid out
  int settle_ = 3;                  // frames until everything stands where it will stay
};

std::string window_title(std::string_view panel);  // "Tensor###tensor"

}  // namespace ps::viewer
