// parscope completions bash|zsh|fish: from the table of commands, so that none is ever missing.
#include <algorithm>

#include "diff/cli/command_table.h"

namespace ps::cli {

namespace {

// The first sentence of an option's help, on one line, without what a shell would read.
std::string brief(std::string_view help) {
  std::string out;
  for (const char c : help.substr(0, help.find(';'))) {
    if (c == '\n') {
      out += ' ';
    } else if (std::string_view("'\"`$\\[]:").find(c) == std::string_view::npos) {
      out += c;
    }
  }
  constexpr std::size_t kLongest = 70;
  return out.substr(0, kLongest);
}

std::string options_of(const Command& command) {
  std::string out;
  for (const Option& o : command.options) out += std::string(o.name) + " ";
  return out + "--help";
}

std::string names() {
  std::string out;
  for (const GetCommand get : command_table()) out += std::string(get().name) + " ";
  return out + "help --help --version";
}

std::string bash() {
  std::string out =
      "# parscope's completions for bash: parscope completions bash > "
      "~/.local/share/bash-completion/completions/parscope\n"
      "_parscope() {\n"
      "  local word=${COMP_WORDS[COMP_CWORD]}\n"
      "  if ((COMP_CWORD == 1)); then\n"
      "    COMPREPLY=($(compgen -W '" +
      names() +
      "' -- \"$word\"))\n    return\n  fi\n"
      "  [[ $word == -* ]] || return\n"
      "  case ${COMP_WORDS[1]} in\n";
  for (const GetCommand get : command_table()) {
    out += "    " + std::string(get().name) + ") COMPREPLY=($(compgen -W '" + options_of(get()) +
           "' -- \"$word\")) ;;\n";
  }
  return out + "  esac\n}\ncomplete -o default -F _parscope parscope\n";
}

std::string zsh() {
  std::string out =
      "#compdef parscope\n"
      "# parscope's completions for zsh: parscope completions zsh > a folder of $fpath/_parscope\n"
      "_parscope() {\n  local -a commands\n  commands=(\n";
  for (const GetCommand get : command_table()) {
    out += "    '" + std::string(get().name) + ":" + brief(get().summary) + "'\n";
  }
  out +=
      "  )\n  if ((CURRENT == 2)); then _describe command commands; return; fi\n"
      "  case $words[2] in\n";
  for (const GetCommand get : command_table()) {
    out += "    " + std::string(get().name) + ") _arguments -S";
    for (const Option& o : get().options) {
      out += " '" + std::string(o.name) + "[" + brief(o.help) + "]";
      if (o.takes_word()) out += ":" + std::string(o.value) + ":_files";
      out += "'";
    }
    out += " '*:file:_files' ;;\n";
  }
  return out + "  esac\n}\n_parscope \"$@\"\n";
}

std::string fish() {
  std::string out =
      "# parscope's completions for fish: parscope completions fish > "
      "~/.config/fish/completions/parscope.fish\n";
  for (const GetCommand get : command_table()) {
    const std::string name(get().name);
    out += "complete -c parscope -n __fish_use_subcommand -a " + name + " -d '" +
           brief(get().summary) + "'\n";
    for (const Option& o : get().options) {
      const bool is_long = o.name.starts_with("--");
      out += "complete -c parscope -n '__fish_seen_subcommand_from " + name + "' " +
             (is_long ? "-l " + std::string(o.name.substr(2))
                      : "-s " + std::string(o.name.substr(1))) +
             (o.takes_word() ? " -r" : "") + " -d '" + brief(o.help) + "'\n";
    }
  }
  return out;
}

Result<int> run(const Arguments& arguments) {
  PS_TRY(const std::string shell,
         only_positional(completions_command(), arguments, "bash, zsh or fish"));
  if (shell != "bash" && shell != "zsh" && shell != "fish") {
    return bad_input("parscope completions", "does not know this shell", "bash, zsh or fish",
                     shell);
  }
  print(shell == "bash" ? bash() : shell == "zsh" ? zsh() : fish());
  return 0;
}

}  // namespace

const Command& completions_command() {
  static const Command command{"completions",
                               "prints completions for bash, zsh or fish",
                               "completions bash|zsh|fish",
                               "The script completes commands and their options.\n\n"
                               "  source <(parscope completions bash)\n"
                               "  parscope completions fish > "
                               "~/.config/fish/completions/parscope.fish",
                               {},
                               run};
  return command;
}

}  // namespace ps::cli
