#include <algorithm>
#include <array>

#include "viewer/app/commands.h"

namespace ps::viewer {

namespace {

constexpr auto kTable = std::to_array<CommandInfo>({
#define PS_VIEW_COMMAND(function, name, keys, arguments, help) \
  {name, keys, arguments, help, &command_##function},
#include "viewer/app/commands.def"
#undef PS_VIEW_COMMAND
});

// Not of the view: they act on the history itself, or on files that stay open.
constexpr std::array<std::string_view, 2> kOutsideHistory = {"undo", "redo"};
// Sent so often that a log of them would hide the rest.
constexpr std::array<std::string_view, 5> kSilent = {"view", "move", "help", "palette", "clear"};

template <std::size_t N>
bool is_in(const std::array<std::string_view, N>& words, std::string_view word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

std::vector<CommandInfo> make_table() {
  std::vector<CommandInfo> table(kTable.begin(), kTable.end());
  for (CommandInfo& command : table) {
    command.in_history = !is_in(kOutsideHistory, command.name);
    command.in_log = !is_in(kSilent, command.name);
  }
  return table;
}

}  // namespace

std::span<const CommandInfo> command_table() {
  static const std::vector<CommandInfo> table = make_table();
  return table;
}

const CommandInfo* find_command(std::string_view name) {
  for (const CommandInfo& command : command_table()) {
    if (command.name == name) return &command;
  }
  return nullptr;
}

const std::vector<KeyBinding>& key_bindings() {
  static const std::vector<KeyBinding> bindings = [] {
    std::vector<KeyBinding> out;
    for (const CommandInfo& command : command_table()) {
      std::string_view rest = command.keys;
      while (!rest.empty()) {
        const std::string_view word = rest.substr(0, rest.find(' '));
        rest.remove_prefix(std::min(word.size() + 1, rest.size()));
        const std::size_t equals = word.find('=');
        KeyBinding binding{std::string(word.substr(0, equals)), std::string(command.name),
                           &command};
        if (equals != std::string_view::npos) {
          binding.line += " " + std::string(word.substr(equals + 1));
        }
        out.push_back(std::move(binding));
      }
    }
    return out;
  }();
  return bindings;
}

Result<Words> words_of(std::string_view line) {
  Words words;
  std::size_t i = 0;
  while (true) {
    while (i < line.size() && (line[i] == ' ' || line[i] == '\t' || line[i] == '\n')) ++i;
    if (i == line.size()) return words;
    std::string word;
    bool in_quotes = false;
    for (; i < line.size() && (in_quotes || (line[i] != ' ' && line[i] != '\t' && line[i] != '\n'));
         ++i) {
      if (line[i] == '"') {
        in_quotes = !in_quotes;
      } else if (line[i] == '\\' && in_quotes && i + 1 < line.size()) {
        word += line[++i];
      } else {
        word += line[i];
      }
    }
    if (in_quotes) return bad_input("command", "has a quote that is not closed", "\"a b\"");
    words.push_back(std::move(word));
  }
}

std::string as_word(std::string_view word) {
  std::string out = "\"";
  for (const char c : word) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

}  // namespace ps::viewer
