#include <cstdio>
#include <cstdlib>
#include <unistd.h>

#include "diff/cli/command.h"

namespace ps::cli {

bool stdout_has_color() {
  const char* no_color = std::getenv("NO_COLOR");
  return isatty(STDOUT_FILENO) == 1 && (no_color == nullptr || *no_color == '\0');
}

void print(std::string_view text) { std::fwrite(text.data(), 1, text.size(), stdout); }

Progress::Progress(std::string label)
    : label_(std::move(label)), terminal_(isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() {
  if (shown_) std::fputs("\r\x1b[K", stderr);
}

void Progress::update(std::int64_t done, std::int64_t total) {
  if (!terminal_) return;
  constexpr int kWidth = 24;
  const int filled = total > 0 ? static_cast<int>(done * kWidth / total) : 0;
  std::string bar(static_cast<std::size_t>(filled), '#');
  bar.resize(kWidth, '.');
  std::fprintf(stderr, "\r\x1b[K%s [%s] %lld/%lld", label_.c_str(), bar.c_str(),
               static_cast<long long>(done), static_cast<long long>(total));
  std::fflush(stderr);
  shown_ = true;
}

Error wrong_usage(const Command& command, const std::string& problem) {
  return bad_input("parscope " + std::string(command.name),
                   problem + "; usage: parscope " + std::string(command.usage));
}

Result<std::string> only_positional(const Command& command, const Arguments& arguments,
                                    const std::string& what) {
  const std::vector<std::string>& words = arguments.positionals();
  if (words.empty()) return wrong_usage(command, "no " + what);
  if (words.size() > 1) {
    return wrong_usage(command, "one " + what + ", not " + std::to_string(words.size()) + ": '" +
                                    words[0] + "' and '" + words[1] + "'");
  }
  if (words[0].empty()) return wrong_usage(command, what + " is empty");
  return words[0];
}

std::string help_text(const Command& command) {
  std::string out = "usage: parscope " + std::string(command.usage) + "\n\n" +
                    std::string(command.summary) + "\n";
  if (!command.details.empty()) out += "\n" + std::string(command.details) + "\n";
  if (!command.options.empty()) out += "\noptions:\n";
  for (const Option& o : command.options) {
    std::string left = "  " + std::string(o.name);
    left += (o.takes_word() ? " " : "") + std::string(o.value);
    constexpr std::size_t kColumn = 28;
    if (left.size() + 2 > kColumn) {
      out += left + "\n" + std::string(kColumn, ' ');
    } else {
      left.resize(kColumn, ' ');
      out += left;
    }
    for (const char c : o.help) {
      out += c;
      if (c == '\n') out += std::string(kColumn, ' ');
    }
    out += "\n";
  }
  return out;
}

}  // namespace ps::cli
