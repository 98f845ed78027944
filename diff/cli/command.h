// A command: a name, its help, its options, and a function from words to an exit code. Commands
// are listed in commands.def; each is one file in commands/.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "core/result.h"
#include "diff/cli/arguments.h"

namespace ps::cli {

struct Command {
  std::string_view name;
  std::string_view summary;  // one line, in the table of `parscope --help`
  std::string_view usage;    // after "parscope "
  std::string_view details;  // paragraphs and examples
  std::span<const Option> options;
  Result<int> (*run)(const Arguments& arguments);
  bool wraps = false;  // its first word begins another command, with options of its own
};

#define PS_COMMAND(name) const Command& name##_command();
#include "diff/cli/commands.def"
#undef PS_COMMAND

std::string help_text(const Command& command);
// "parscope trace: no -o DIR; usage: parscope trace MODEL_DIR -o DIR [inputs] [engine]"
Error wrong_usage(const Command& command, const std::string& problem);
// The only word of a command line that names a thing; `what` is what the command wants.
Result<std::string> only_positional(const Command& command, const Arguments& arguments,
                                    const std::string& what);

// Options that several commands share.
inline constexpr Option kJson{"--json", "", "print one JSON document on stdout and nothing else"};
inline constexpr Option kExplain{
    "--explain", "FINDING",
    "print one finding's chain of evidence instead: its number in the\n"
    "report (1 = the cause of the first divergence), or its id"};
inline constexpr Option kProfile{
    "--profile", "", "where the time and memory went, by phase, on stderr and in timing"};
inline constexpr Option kQuiet{"--quiet", "", "print only what is wrong"};

// Where results go. Progress and errors go to stderr, and progress only to a terminal.
bool stdout_has_color();
void print(std::string_view text);
class Progress {
 public:
  explicit Progress(std::string label);
  ~Progress();
  void update(std::int64_t done, std::int64_t total);
  bool shown() const { return shown_; }

 private:
  std::string label_;
  bool terminal_;
  bool shown_ = false;
};

}  // namespace ps::cli
