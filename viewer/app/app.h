// The viewer without its window: what is open, what is looked at, and the commands that change it.
// Keys, menus, the palette, links, scripts and tests all end in execute().
#pragma once

#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "viewer/app/jobs.h"
#include "viewer/app/selection.h"
#include "viewer/app/session.h"

namespace ps::viewer {

struct LogLine {
  enum class Kind : std::uint8_t { kCommand, kAnswer, kError };
  Kind kind = Kind::kAnswer;
  std::string text;
};

// States before and after, for undo and redo.
class History {
 public:
  void push(const State& before);  // forgets what was undone
  bool undo(State& state);
  bool redo(State& state);
  std::size_t undos() const { return undone_from_.size(); }
  std::size_t redos() const { return redone_from_.size(); }

 private:
  std::deque<State> undone_from_, redone_from_;
};

// What commands ask of the window; it answers at the next frame and clears them.
struct Requests {
  std::string clipboard;  // to be copied
  std::string picture;    // a file to write the window's picture to
  bool layout = false;    // the panels are laid out anew
  bool focus = false;     // state.panel gets the keyboard
  bool toggle_palette = false;
  std::string palette_text;  // what stands in it then
  bool toggle_help = false;
  bool quit = false;
};

class App {
 public:
  Session session;
  State state;
  Requests requests;
  std::vector<std::string> open_panels;  // as they stand in the window, in the order of the layout
  bool peek = false;                     // while the key is held, what is expected is shown
  Mode mode() const { return peek ? Mode::kExpected : state.display.mode; }
  // Last: jobs may hold what stands above.
  Jobs jobs;

  // A command line: "head +1", "go model.norm token=3". What went wrong is logged and handed back.
  Result<void> execute(std::string_view line);
  // As execute, but in the history with the command before when both begin with the same word:
  // what a dragged slider sends.
  Result<void> execute_merged(std::string_view line);

  const std::deque<LogLine>& log() const { return log_; }
  void say(std::string text, LogLine::Kind kind = LogLine::Kind::kAnswer);
  void clear_log() { log_.clear(); }
  History& history() { return history_; }
  std::string link() const;

  // Starts what is missing for the selected run: its report against the reference.
  void refresh();

 private:
  Result<void> run_line(std::string_view line, bool merge);
  History history_;
  std::string last_command_;
  std::deque<LogLine> log_;
  std::uint64_t seen_version_ = ~std::uint64_t{0};
};

}  // namespace ps::viewer
