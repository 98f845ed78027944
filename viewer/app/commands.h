// The table of commands: one line in commands.def and one function each. Keys, the palette and the
// help are made from it.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace ps::viewer {

class App;
using Words = std::vector<std::string>;

struct CommandInfo {
  std::string_view name;
  std::string_view keys;       // "N", "]=+1 [=-1": key, or key=arguments; between blanks
  std::string_view arguments;  // "POINT [AXIS=N...]"; for people
  std::string_view help;       // one sentence
  Result<void> (*run)(App& app, const Words& arguments);
  bool in_history = true;
  bool in_log = true;
};
std::span<const CommandInfo> command_table();
const CommandInfo* find_command(std::string_view name);

// A key and the line that it stands for: {"Shift+N", "previous"}.
struct KeyBinding {
  std::string key;
  std::string line;
  const CommandInfo* command;
};
const std::vector<KeyBinding>& key_bindings();

// Words between blanks; "a b" in quotes is one word.
Result<Words> words_of(std::string_view line);
std::string as_word(std::string_view word);  // as words_of reads it back

#define PS_VIEW_COMMAND(function, name, keys, arguments, help) \
  Result<void> command_##function(App& app, const Words& words);
#include "viewer/app/commands.def"
#undef PS_VIEW_COMMAND

// What was dropped onto the window: opened in turn. What cannot be opened is said last, where the
// status line shows it, whatever was opened after it.
void open_dropped(App& app, const std::vector<std::string>& paths);

}  // namespace ps::viewer
