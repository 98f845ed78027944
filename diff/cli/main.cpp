// parscope: finds the command and turns its result into words and an exit code.
#include <array>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <string>
#include <unistd.h>
#include <vector>

#include "diff/cli/command_table.h"

namespace ps::cli {

std::span<const GetCommand> command_table() {
  static constexpr std::array kTable{
#define PS_COMMAND(name) GetCommand{&name##_command},
#include "diff/cli/commands.def"
#undef PS_COMMAND
  };
  return kTable;
}

namespace {

std::string overview() {
  std::string out =
      "parscope - finds where a language model goes wrong, and why\n\n"
      "usage: parscope COMMAND [options]     (parscope COMMAND --help explains one)\n\n";
  for (const auto command : command_table()) {
    std::string name = "  " + std::string(command().name);
    name.resize(14, ' ');
    out += name + std::string(command().summary) + "\n";
  }
  out +=
      "\nexit codes: 0 nothing wrong found, 1 something wrong found, 2 bad usage or bad input,\n"
      "            3 the machine or parscope failed\n"
      "example:    parscope golden verify fixtures/golden\n";
  return out;
}

int fail(const Error& error) {
  const bool named = error.where.starts_with("parscope");  // "parscope trace: unknown option ..."
  std::fprintf(stderr, "%s%s\n", named ? "" : "parscope: ", error.line().c_str());
  return error.kind == Error::Kind::kInput ? 2 : 3;
}

int run(std::span<const std::string> words) {
  if (words.empty()) {
    std::fputs(overview().c_str(), stderr);
    return 2;
  }
  const std::string& first = words[0];
  if (first == "--help" || first == "-h" || (first == "help" && words.size() == 1)) {
    print(overview());
    return 0;
  }
  if (first == "--version") {
    print("parscope " PS_VERSION "\n");
    return 0;
  }
  const bool asks = first == "help";
  const std::string& name = asks ? words[1] : first;
  for (const auto get : command_table()) {
    const Command& command = get();
    if (command.name != name) continue;
    const std::span<const std::string> rest = words.subspan(1);
    for (const std::string& word : rest) {
      if (word == "--" || (command.wraps && &word != rest.data())) break;
      if (word != "--help" && word != "-h" && !asks) continue;
      print(help_text(command));
      return 0;
    }
    const Result<Arguments> arguments =
        Arguments::parse(name, rest, command.options, command.wraps);
    if (!arguments.ok()) return fail(arguments.error());
    const Result<int> code = command.run(arguments.value());
    return code.ok() ? code.value() : fail(code.error());
  }
  std::vector<std::string> names;
  for (const auto get : command_table()) names.emplace_back(get().name);
  if (!asks) names.insert(names.end(), {"--help", "--version", "help"});
  const std::string guess = closest(name, names);
  return fail(bad_input(
      "parscope", "unknown command " + name + "; " +
                      (guess.empty() ? "see parscope --help" : "did you mean " + guess + "?")));
}

}  // namespace
}  // namespace ps::cli

int main(int argc, char** argv) {
  // Where a stream is closed, the next file opened would take its number and receive what is
  // printed. Read-only: printing then fails, as it must.
  for (int fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC); fd >= 0; fd = ::dup(fd)) {
    if (fd <= STDERR_FILENO) continue;
    ::close(fd);
    break;
  }
  try {
    const std::vector<std::string> words(argv + 1, argv + argc);
    const int code = ps::cli::run(words);
    // A full disk is the machine's failure, and must not look like a result.
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
      std::fputs("parscope: the results cannot be written to stdout\n", stderr);
      return 3;
    }
    return code;
  } catch (const std::bad_alloc&) {
    std::fputs("parscope: out of memory\n", stderr);
    return 3;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "parscope: internal error: %s\n", e.what());
    return 3;
  }
}
