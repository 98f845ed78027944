// parscope lint MODEL_DIR | TRACE
#include "diff/lint/lint.h"

#include <filesystem>

#include "diff/cli/command.h"
#include "diff/cli/foreign.h"

namespace ps::cli {

namespace {

constexpr Option kOptions[] = {
    {"--model", "DIR", "the model that made a trace, where the trace does not say"},
    kNames,
    kJson,
    kQuiet};

int told(const Report& report, const std::filesystem::path& path, const Arguments& arguments) {
  if (arguments.has("--json")) {
    print(report_json(report));
  } else if (!arguments.has("--quiet") || exit_code(report) != 0) {
    print(report_text(report, path.string(), {stdout_has_color()}));
  }
  return exit_code(report);
}

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
  if (is_model) {
    PS_TRY(const Report report, lint_model(path));
    return told(report, path, arguments);
  }
  // A cache file alone has names that mean something here already: only --names converts it.
  const std::string kind = path.extension().string();
  const bool dump = fs::is_directory(path, ec) && !is_trace_folder(path) && holds_dump(path);
  const bool foreign = arguments.has("--names") || dump || kind == ".npz" || kind == ".npy" ||
                       kind == ".pt" || kind == ".pth" || kind == ".bin";
  if (!foreign) {
    PS_TRY(const Report report, lint_trace(path, model));
    return told(report, path, arguments);
  }
  PS_TRY(const ConvertOptions how, convert_options(arguments));
  PS_TRY(const ForeignTrace trace, ForeignTrace::open(path, how));
  tell_conversion(trace, path.string());
  PS_TRY(Report report, lint_trace(trace.path(), model));
  note_conversion(trace, "conversion", report);
  return told(report, path, arguments);
}
}  // namespace

const Command& lint_command() {
  static const Command command{
      "lint",
      "checks a config, a checkpoint or a trace without running anything",
      "lint MODEL_DIR | TRACE [options]",
      "A model directory: every rule of its config.json (field, value, rule), every tensor's\n"
      "name, shape and type, and what its numbers give away: NaN, memory that nobody wrote,\n"
      "weights that still hold what an initialiser left while their like do not, prefixes that "
      "are\n"
      "zero or equal in all replicas, an lm_head that is missing or the embedding after all, head\n"
      "counts that fit no projection, weights that this architecture never reads.\n"
      "A trace (a directory with trace.json, or one .safetensors file): names, shapes axis by "
      "axis,\n"
      "cache lengths against prefix + past + new tokens, position_ids against the attention mask,\n"
      "model:mask against causality, padding and window, parameters without a gradient, values\n"
      "that are not finite. Caches are also followed from step to step: what was cached stays\n"
      "(TP041), grows by the new tokens (TP040), holds rotated keys (TP043), moves with its beams\n"
      "(TP044). A file with cache tensors alone (past_key_values.0.key, key_cache.0) is explained\n"
      "axis by axis with --model. Ids are those of `parscope faults`, where one fits.\n\n"
      "  parscope lint fixtures/models/parscale-bytes\n"
      "  parscope lint cache.safetensors --model fixtures/models/parscale-bytes",
      kOptions,
      run};
  return command;
}

}  // namespace ps::cli
