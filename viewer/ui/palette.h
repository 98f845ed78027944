// One line to type into: commands, points, panels and files, whatever fits what is typed.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "viewer/app/app.h"

namespace ps::viewer {

struct PaletteEntry {
  std::string text;  // what is shown and matched
  std::string hint;  // fainter: help, a key
  std::string line;  // what Enter runs; where it needs more words, it ends with a blank
  int score = 0;
};

// What fits `typed`, best first. An empty text gives the commands.
std::vector<PaletteEntry> palette_entries(const App& app, std::string_view typed,
                                          std::size_t most = 60);
// How well the letters of `typed` are in `text`, in order: -1 not at all; more is better.
int fuzzy_score(std::string_view text, std::string_view typed);

class CommandPalette {
 public:
  void toggle();
  void begin(std::string_view text);  // opened with these words
  void close() { open_ = false; }
  bool open() const { return open_; }
  void draw(App& app);

 private:
  void run(App& app, const std::string& line);
  bool open_ = false, focus_ = false, to_end_ = false;
  std::array<char, 1024> typed_{};
  std::string seen_;  // what `entries_` are for
  std::uint64_t seen_version_ = 0;
  std::vector<PaletteEntry> entries_;
  std::size_t at_ = 0;
};

}  // namespace ps::viewer
