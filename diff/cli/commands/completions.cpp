// parscope completions bash|zsh|fish: from the table of commands, so that none is ever missing.
#include <algorithm>
#include <string>
#include <vector>

#include "core/text.h"
#include "diff/cli/command_table.h"
#include "diff/foreign/names.h"

namespace ps::cli {

namespace {

enum class Shell : std::uint8_t { kBash, kZsh, kFish };

// The first clause of an option's help, on one line, cut between words.
std::string brief(std::string_view help) {
  std::string out(help.substr(0, help.find(';')));
  std::replace(out.begin(), out.end(), '\n', ' ');
  constexpr std::size_t kLongest = 72;
  if (out.size() <= kLongest) return out;
  out.resize(out.rfind(' ', kLongest));
  return out + " ...";
}

// As it stands between single quotes; in zsh within [...] of an option too.
std::string quoted(const std::string& text, Shell shell) {
  std::string out;
  for (const char c : text) {
    if (c == '\'') {
      out += shell == Shell::kFish ? "\\'" : "'\\''";
    } else {
      if (shell == Shell::kZsh && std::string_view("[]:\\").find(c) != std::string_view::npos) {
        out += '\\';
      }
      out += c;
    }
  }
  return out;
}

// "verify DIR | record TRACE -o DIR", "show|check CASE": the small words that stand first.
std::vector<std::string> actions_of(const Command& command) {
  std::vector<std::string> out;
  const std::string_view usage = command.usage.substr(command.name.size());
  if (usage.find('|') == std::string_view::npos) return out;
  for (const std::string& way : split_at(std::string(usage), '|')) {
    const std::size_t begin = way.find_first_not_of(' ');
    if (begin == std::string::npos) continue;
    const std::string word = way.substr(begin, way.find(' ', begin) - begin);
    const bool small =
        std::all_of(word.begin(), word.end(), [](char c) { return c >= 'a' && c <= 'z'; });
    if (small) out.push_back(word);
  }
  return out;
}

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : " ") + word;
  return out;
}

std::string presets() {
  std::vector<std::string> out;
  for (const NamePreset& p : name_presets()) out.emplace_back(p.name);
  return joined(out);
}

// Options whose values are a few words, the same for every command.
struct Values {
  std::string_view option;
  std::string words;
};
const std::vector<Values>& values() {
  static const std::vector<Values> all = {
      {"--engine", "model reference"}, {"--device", "auto cuda host"},
      {"--dtype", "f64 f32 bf16 f16"}, {"--attention", "dense walk gate"},
      {"--cross-check", "f64 same"},   {"--names", presets()},
      {"--show", presets()},
  };
  return all;
}

std::string values_of(std::string_view option) {
  for (const Values& v : values()) {
    if (v.option == option) return v.words;
  }
  return "";
}

std::string names() {
  std::string out;
  for (const GetCommand get : command_table()) out += std::string(get().name) + " ";
  return out + "help";
}

std::string bash() {
  std::string out =
      "# parscope's completions for bash: parscope completions bash > "
      "~/.local/share/bash-completion/completions/parscope\n"
      "_parscope() {\n"
      "  local word=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[1]} words= actions=\n"
      "  COMPREPLY=()\n"
      "  ((COMP_CWORD > 1)) || command=\n"
      "  case $command in\n"
      "    '' | help) words='" +
      names() + "'; [[ $word != -* ]] || words='--help --version' ;;\n";
  for (const GetCommand get : command_table()) {
    const Command& command = get();
    out += "    " + std::string(command.name) + ") actions='" + joined(actions_of(command)) +
           "' words='";
    for (const Option& o : command.options) out += std::string(o.name) + " ";
    out += "--help' ;;\n";
  }
  out +=
      "  esac\n"
      "  if [[ $command && $command != help && $word != -* ]]; then\n"
      "    words=\n"
      "    ((COMP_CWORD > 2)) || words=$actions\n"
      "    case ${COMP_WORDS[COMP_CWORD-1]} in\n";
  for (const Values& v : values()) {
    out += "      " + std::string(v.option) + ") words='" + v.words + "' ;;\n";
  }
  return out +
         "    esac\n"
         "  fi\n"
         "  [[ ! $words ]] || COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n"
         "}\n"
         "complete -o default -F _parscope parscope\n";
}

std::string zsh() {
  std::string out =
      "#compdef parscope\n"
      "# parscope's completions for zsh: parscope completions zsh > a folder of $fpath/_parscope\n"
      "_parscope() {\n  local -a commands\n  commands=(\n";
  for (const GetCommand get : command_table()) {
    out +=
        "    '" + std::string(get().name) + ":" + quoted(brief(get().summary), Shell::kZsh) + "'\n";
  }
  out +=
      "  )\n  if ((CURRENT == 2)); then _describe command commands; return; fi\n"
      "  shift words; ((CURRENT--))\n"
      "  case $words[1] in\n";
  for (const GetCommand get : command_table()) {
    const Command& command = get();
    out += "    " + std::string(command.name) + ") _arguments -S";
    for (const Option& o : command.options) {
      out += " '" + std::string(o.name) + "[" + quoted(brief(o.help), Shell::kZsh) + "]";
      const std::string words = values_of(o.name);
      if (o.takes_word()) {
        out += ":" + quoted(std::string(o.value), Shell::kZsh) + ":" +
               (words.empty() ? "_files" : "(" + words + ")");
      }
      out += "'";
    }
    const std::string actions = joined(actions_of(command));
    if (!actions.empty()) out += " '1:action:(" + actions + ")'";
    out += " '*:file:_files' ;;\n";
  }
  return out + "    help) _describe command commands ;;\n  esac\n}\n_parscope \"$@\"\n";
}

std::string fish() {
  std::string out =
      "# parscope's completions for fish: parscope completions fish > "
      "~/.config/fish/completions/parscope.fish\n"
      "complete -c parscope -n __fish_use_subcommand -f\n";
  for (const GetCommand get : command_table()) {
    const Command& command = get();
    const std::string name(command.name), after = "'__fish_seen_subcommand_from " + name;
    out += "complete -c parscope -n __fish_use_subcommand -a " + name + " -d '" +
           quoted(brief(command.summary), Shell::kFish) + "'\n";
    const std::string actions = joined(actions_of(command));
    if (!actions.empty()) {
      out += "complete -c parscope -n " + after + "; and not __fish_seen_subcommand_from " +
             actions + "' -f -a '" + actions + "'\n";
    }
    for (const Option& o : command.options) {
      const std::string words = values_of(o.name);
      out += "complete -c parscope -n " + after + "' " +
             (o.name.starts_with("--") ? "-l " + std::string(o.name.substr(2))
                                       : "-s " + std::string(o.name.substr(1))) +
             (o.takes_word() ? " -r" : "") + (words.empty() ? "" : " -f -a '" + words + "'") +
             " -d '" + quoted(brief(o.help), Shell::kFish) + "'\n";
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
