// parscope view: starts parscope-viewer, a program of its own, so that nothing else waits for a
// window system or carries one.
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string>
#include <unistd.h>
#include <vector>

#include "core/library.h"
#include "diff/cli/command.h"

namespace ps::cli {

namespace {

constexpr Option kOptions[] = {
    {"--reference", "TRACE", "compare with this trace"},
    {"--run", "TRACE", "one more run beside the first (any number of times)"},
    {"--model", "DIR", "the model's config, where the trace does not say"},
    {"--link", "LINK", "go to the view that a parscope: link names"},
    {"--panel", "NAME", "begin with this panel: divergence, mask, tensor, findings, ..."},
    {"--layout", "NAME", "triage, mask, replica, decode, compare or solo"},
    {"--scale", "X", "the size of text, 1 to 2.5"},
    {"--do", "COMMAND", "run a command of the viewer at the start (any number of times)"},
    {"--screenshot", "FILE.png", "write a picture and open no window; needs no display"},
    {"--size", "WxH", "of the window or the picture in pixels (1600x1000)"},
    {"--reuse", "", "show it in the viewer that runs already, in place of what is open there"},
    {"--gl", "", "draw by OpenGL also where it is software"},
};

Result<int> run(const Arguments& arguments) {
  const std::filesystem::path self = this_program();
  const std::filesystem::path viewer = self.parent_path() / "parscope-viewer";
  if (self.empty() || ::access(viewer.c_str(), X_OK) != 0) {
    return machine_error("parscope view",
                         "the viewer was not built here (Dear ImGui or GLFW was missing); "
                         "`./dev build` fetches both",
                         viewer.string());
  }
  std::vector<std::string> words = {viewer.string()};
  for (const Option& option : kOptions) {
    if (!arguments.has(option.name)) continue;
    if (option.value.empty()) words.emplace_back(option.name);
    for (const std::string& value : arguments.all(option.name)) {
      if (option.value.empty()) continue;
      words.emplace_back(option.name);
      words.push_back(value);
    }
  }
  if (!arguments.positionals().empty()) words.emplace_back("--");
  words.insert(words.end(), arguments.positionals().begin(), arguments.positionals().end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  ::execv(viewer.c_str(), argv.data());
  return machine_error("parscope view", "cannot start " + viewer.string(), "",
                       std::strerror(errno));
}

}  // namespace

const Command& view_command() {
  static const Command command{
      "view",
      "opens a trace, a report or a mask in a window, or draws it into a picture",
      "view TRACE|REPORT|MASK... [options]",
      "Shows where the error begins (layers by ops), the findings, any tensor beside the\n"
      "reference's, masks, replicas, the cache. N goes to the next divergence, Ctrl+P finds\n"
      "anything, ? lists all keys, Ctrl+L copies a link that reopens the same view.\n\n"
      "What to open: a trace (its folder, trace.json, or a .safetensors file), a report\n"
      "(report.json or its folder), a mask (whatever `parscope mask show` reads), a model's "
      "folder.\n"
      "Several may be given; the first report or trace is what links name. Without a path, files "
      "can\n"
      "be dropped onto the window. A link alone goes to the viewer that is open already.\n\n"
      "examples:\n"
      "  parscope view report/\n"
      "  parscope view mine/ --reference theirs/\n"
      "  parscope view a/ --run b/ --reference theirs/ --layout compare\n"
      "  parscope view report/ --screenshot strip.png --size 1200x700 --panel divergence\n"
      "  parscope view report/ --link 'parscope:1f0c...?step=0&point=model:mask&query=7'\n"
      "  parscope view 'parscope:1f0c...?step=0&point=model:mask&query=7'\n"
      "  parscope view 'B=1 H=1 Q=4096 KV=4096; causal' 'B=1 H=1 Q=4096 KV=4096; causal(1)'",
      kOptions,
      run};
  return command;
}

}  // namespace ps::cli
