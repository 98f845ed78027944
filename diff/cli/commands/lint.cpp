// parscope lint MODEL_DIR | TRACE
#include "diff/lint/lint.h"

#include <filesystem>

#include "diff/cli/command.h"

namespace ps::cli {

namespace {

constexpr Option kOptions[] = {
    {"--model", "DIR", "the model that made a trace, where the trace does not say"}, kJson, kQuiet};

Result<int> run(const Arguments& arguments) {
  namespace fs = std::filesystem;
  PS_TRY(const std::string word, only_positional(lint_command(), arguments, "MODEL_DIR or TRACE"));
  fs::path path = word;
  std::error_code ec;
  if (!fs::exists(path, ec)) {
    return bad_input(path.string(), ec ? "cannot be read" : "no such file or folder",
                     "a model directory or a trace", ec ? ec.message() : "");
  }
  // Whoever names the file that describes a folder means the folder.
  const bool describes = path.filename() == "trace.json" || path.filename() == "config.json";
  if (describes && fs::is_regular_file(path, ec)) {
    path = path.has_parent_path() ? path.parent_path() : ".";
  }
  const bool is_model = fs::is_directory(path, ec) && fs::exists(path / "config.json", ec);
  std::optional<fs::path> model;
  if (arguments.has("--model")) model = arguments.get("--model");
  PS_TRY(const Report report, is_model ? lint_model(path) : lint_trace(path, model));
  if (arguments.has("--json")) {
    print(report_json(report));
  } else if (!arguments.has("--quiet") || exit_code(report) != 0) {
    print(report_text(report, path.string(), {stdout_has_color()}));
  }
  return exit_code(report);
}

}  // namespace

const Command& lint_command() {
  static const Command command{
      "lint",
      "checks a config, a checkpoint or a trace without running anything",
      "lint MODEL_DIR | TRACE [options]",
      "A model directory: every rule of its config.json (field, value, "
      "rule), every tensor's name,\n"
      "shape and type, weights that are NaN or were never loaded.\n"
      "A trace (a directory with trace.json, or one .safetensors file): "
      "names, shapes axis by axis,\n"
      "caches, inputs, values that are not finite. Caches are also followed from step to step:\n"
      "what was cached stays (TP041), grows by the new tokens (TP040), "
      "holds rotated keys (TP043),\n"
      "moves with its beams (TP044). A file with cache tensors alone "
      "(past_key_values.0.key,\n"
      "key_cache.0) is explained axis by axis with --model.\n\n"
      "  parscope lint fixtures/models/parscale-bytes\n"
      "  parscope lint cache.safetensors --model fixtures/models/parscale-bytes",
      kOptions,
      run};
  return command;
}

}  // namespace ps::cli
