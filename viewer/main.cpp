// parscope-viewer: what `parscope view` starts. Its options are those of `parscope view --help`.
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <vector>

#include "viewer/app/commands.h"
#include "viewer/present/instance.h"
#include "viewer/present/stage.h"
#include "viewer/present/window.h"

namespace ps::viewer {
namespace {

struct Options {
  std::vector<std::string> files, commands;
  std::string reference, model, link, panel, layout, screenshot, scale;
  bool reuse = false;
  WindowOptions window;
};

Result<Options> parse(const std::vector<std::string>& words) {
  Options o;
  bool only_files = false;
  for (std::size_t i = 0; i < words.size(); ++i) {
    std::string word = words[i];
    if (word.starts_with("parscope:") && o.link.empty()) {
      o.link = word;
      continue;
    }
    if (only_files || !word.starts_with("--")) {
      o.files.push_back(word);
      continue;
    }
    if (word == "--") {
      only_files = true;
      continue;
    }
    if (word == "--reuse") {
      o.reuse = true;
      continue;
    }
    if (word == "--gl") {
      o.window.always_gl = true;
      continue;
    }
    std::optional<std::string> value;
    if (const std::size_t equals = word.find('='); equals != std::string::npos) {
      value = word.substr(equals + 1);
      word.resize(equals);
    } else if (i + 1 < words.size()) {
      value = words[++i];
    }
    if (!value) return bad_input("parscope view", word + " needs a value");
    if (word == "--reference") {
      o.reference = *value;
    } else if (word == "--run") {
      o.files.push_back(*value);
    } else if (word == "--model") {
      o.model = *value;
    } else if (word == "--link") {
      o.link = *value;
    } else if (word == "--panel") {
      o.panel = *value;
    } else if (word == "--layout") {
      o.layout = *value;
    } else if (word == "--scale") {
      o.scale = *value;
    } else if (word == "--do") {
      o.commands.push_back(*value);
    } else if (word == "--screenshot") {
      o.screenshot = *value;
    } else if (word == "--size") {
      PS_TRY(o.window.size, size_of_words(*value));
    } else if (word == "--frames") {
      PS_TRY(o.window.frames, integer_of(*value, "--frames", 1, 1 << 30));
    } else if (word == "--frame-picture") {
      o.window.picture = *value;
    } else {
      return bad_input("parscope view", "unknown option " + word);
    }
  }
  return o;
}

// Everything that the command line names, in the order in which a user would do it.
Result<void> prepare(App& app, const Options& o) {
  for (const std::string& file : o.files) PS_TRY_VOID(app.execute("open " + as_word(file)));
  if (!o.model.empty()) PS_TRY_VOID(app.session.open_model(o.model));
  if (!o.reference.empty()) PS_TRY_VOID(app.execute("reference " + as_word(o.reference)));
  app.jobs.wait_all();
  const auto report = app.session.report(0);
  if (report != nullptr && report->first_divergence) (void)app.execute("first");
  if (!o.link.empty()) PS_TRY_VOID(app.execute("follow " + as_word(o.link)));
  if (!o.layout.empty()) PS_TRY_VOID(app.execute("layout " + as_word(o.layout)));
  if (!o.panel.empty()) PS_TRY_VOID(app.execute("panel " + as_word(o.panel)));
  if (!o.panel.empty() && o.layout.empty() && !o.screenshot.empty()) app.state.layout = "solo";
  if (!o.scale.empty()) PS_TRY_VOID(app.execute("scale " + as_word(o.scale)));
  for (const std::string& line : o.commands) PS_TRY_VOID(app.execute(line));
  return {};
}

// A path as another program finds it, wherever that was started.
std::string whole(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored) ? std::filesystem::absolute(path, ignored).string()
                                                : path;
}

// What prepare() does, as lines for the viewer that runs. A link alone is of what is open there.
std::vector<std::string> lines_of(const Options& o) {
  std::vector<std::string> lines;
  if (!o.files.empty()) lines.emplace_back("close");
  for (const std::string& file : o.files) lines.push_back("open " + as_word(whole(file)));
  if (!o.model.empty()) lines.push_back("open " + as_word(whole(o.model)));
  if (!o.reference.empty()) lines.push_back("reference " + as_word(whole(o.reference)));
  if (!o.link.empty()) lines.push_back("follow " + as_word(o.link));
  if (!o.layout.empty()) lines.push_back("layout " + as_word(o.layout));
  if (!o.panel.empty()) lines.push_back("panel " + as_word(o.panel));
  if (!o.scale.empty()) lines.push_back("scale " + as_word(o.scale));
  lines.insert(lines.end(), o.commands.begin(), o.commands.end());
  return lines;
}

std::filesystem::path config_dir() {
  if (const char* dir = std::getenv("XDG_CONFIG_HOME"); dir != nullptr && *dir != '\0') {
    return std::filesystem::path(dir) / "parscope";
  }
  const char* home = std::getenv("HOME");
  return home == nullptr || *home == '\0' ? std::filesystem::path()
                                          : std::filesystem::path(home) / ".config" / "parscope";
}

Result<void> run(const std::vector<std::string>& words) {
  PS_TRY(const Options options, parse(words));
  const bool only_link = !options.link.empty() && options.files.empty() &&
                         options.reference.empty() && options.model.empty();
  if (options.screenshot.empty() && (options.reuse || only_link)) {
    if (const auto told = tell_instance(instance_socket(), lines_of(options))) return *told;
  }
  if (only_link)
    return bad_input("parscope view",
                     "a link alone goes to the viewer that runs, and none does here",
                     "the trace or the report that the link is of");
  App app;
  PS_TRY_VOID(prepare(app, options));
  if (!options.screenshot.empty()) {
    if (!options.screenshot.ends_with(".png")) {
      return bad_input("--screenshot", "must be a .png file", "view.png", options.screenshot);
    }
    Stage stage(app);
    stage.settle(options.window.size.width, options.window.size.height);
    return write_picture(drawn(options.window.size.width, options.window.size.height),
                         options.screenshot);
  }
  Stage stage(app, config_dir());
  return run_window(app, stage, options.window);
}

}  // namespace
}  // namespace ps::viewer

int main(int argc, char** argv) {
  try {
    const std::vector<std::string> words(argv + 1, argv + argc);
    const ps::Result<void> done = ps::viewer::run(words);
    if (done.ok()) return 0;
    const ps::Error& error = done.error();
    const bool named = error.where.starts_with("parscope");
    std::fprintf(stderr, "%s%s\n", named ? "" : "parscope view: ", error.line().c_str());
    return error.kind == ps::Error::Kind::kInput ? 2 : 3;
  } catch (const std::bad_alloc&) {
    std::fputs("parscope view: out of memory\n", stderr);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "parscope view: internal error: %s\n", e.what());
  }
  return 3;
}
