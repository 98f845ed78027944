// parscope convert INPUT -o TRACE
#include "diff/foreign/convert.h"

#include <cstdio>

#include "core/json.h"
#include "diff/cli/command.h"
#include "diff/cli/foreign.h"
#include "diff/cli/output_probe.h"
#include "diff/cli/packing.h"
#include "diff/report/report.h"
#include "diff/run/inputs.h"

namespace ps::cli {

namespace {

constexpr Option kOptions[] = {
    {"-o", "TRACE", "the folder to write; an older trace in it is replaced"},
    kNames,
    {"--model", "DIR", "the model's folder or config.json: sizes of heads, and what {L} is"},
    {"--tokens", "FILE",
     "the first step's tokens as JSON, where the input does not hold them:\n"
     "[[ids], ...] or {\"input_ids\": [[ids], ...]}"},
    kCompress,
    {"--show", "PRESET", "print a preset's rules, to be copied and changed"},
    kJson,
    kQuiet};

Result<int> show(const std::string& name) {
  std::string known;
  for (const NamePreset& preset : name_presets()) {
    if (preset.name == name) {
      print(preset.text);
      return 0;
    }
    known += (known.empty() ? "" : ", ") + std::string(preset.name);
  }
  return bad_input(name, "is no preset", known);
}

std::string json_of(const Conversion& c, const std::string& source, const std::string& dir) {
  std::string out =
      "{\"input\": " + json_string(source) + ", \"trace\": " + json_string(dir) +
      ", \"names\": " + json_string(c.names) +
      ", \"recognised\": " + (c.recognised ? "true" : "false") +
      ", \"steps\": " + std::to_string(c.steps) + ", \"points\": " + std::to_string(c.points) +
      ", \"renamed\": " + std::to_string(c.renamed) + ", \"split\": " + std::to_string(c.split) +
      ", \"arranged\": " + std::to_string(c.arranged) + ", \"unmatched\": [";
  for (std::size_t i = 0; i < c.unmatched.size(); ++i) {
    out += (i > 0 ? ", " : "") + json_string(c.unmatched[i]);
  }
  out += "], \"misfits\": {";
  bool first = true;
  for (const auto& [name, why] : c.misfits) {
    out += (first ? "" : ", ") + json_string(name) + ": " + json_string(why);
    first = false;
  }
  out += "}, \"notes\": [";
  for (std::size_t i = 0; i < c.notes.size(); ++i) {
    out += (i > 0 ? ", " : "") + json_string(c.notes[i]);
  }
  return out + "]}\n";
}

Result<int> run(const Arguments& arguments) {
  if (arguments.has("--show") && arguments.positionals().empty()) {
    if (arguments.has("--json")) {
      return wrong_usage(convert_command(), "--show prints rules; --json goes with INPUT");
    }
    return show(arguments.get("--show"));
  }
  PS_TRY(const std::string source, only_positional(convert_command(), arguments, "INPUT"));
  if (!arguments.has("-o")) return wrong_usage(convert_command(), "no -o TRACE");
  const std::string dir = arguments.get("-o");
  PS_TRY_VOID(probe_output_dir(dir));
  PS_TRY(ConvertOptions options, convert_options(arguments));
  PS_TRY(options.packing, packing_of(arguments));
  if (arguments.has("--tokens")) {
    if (!options.config) {
      return wrong_usage(convert_command(), "--tokens needs --model, to know the vocabulary");
    }
    PS_TRY(options.tokens, inputs_from_file(arguments.get("--tokens"), *options.config));
  }
  std::error_code ec;
  if (std::filesystem::equivalent(source, dir, ec)) {
    return bad_input(dir, "is the input itself", "another folder");
  }
  PS_TRY(const ForeignRun input, read_foreign(source));
  PS_TRY(const Conversion made, convert(input, source, options, dir));
  if (arguments.has("--json")) {
    print(json_of(made, source, dir));
  } else {
    print(dir + ": " + made.sentence() + "\n");
    if (!arguments.has("--quiet")) print(conversion_details(made));
  }
  return 0;
}

}  // namespace

const Command& convert_command() {
  static const Command command{
      "convert",
      "makes a trace of other programs' files: .npy, .npz, .pt, .safetensors",
      "convert INPUT -o TRACE [options]",
      "INPUT is a file or a folder: .npz, .npy, .pt (torch.save; read without running anything in\n"
      "it), .safetensors, or a trace under other names. Steps and ranks stand in the paths:\n"
      "step-3/, Pass00003.pt, iter_3.npz, rank1/, TP1_PP0/. A .npy is named by its path.\n"
      "Names and layouts of vLLM, nano-vllm, SGLang, llama.cpp and transformers are recognised;\n"
      "--names takes a preset or a file of rules (docs/foreign.md). Fused projections are cut,\n"
      "flattened batches (cu_seqlens) become rows padded on the left, paged caches become caches.\n"
      "Values are moved, never changed. `diff`, `diagnose` and `lint` read such files directly.\n"
      "A trace in parscope's own names may be INPUT too: --compress packs it, and without that a\n"
      "packed one becomes plain again.\n\n"
      "  parscope convert dump/ -o trace/ --model MODEL\n"
      "  parscope convert run.npz -o trace/ --names my.names --model MODEL\n"
      "  parscope convert trace/ -o packed/ --compress\n"
      "  parscope convert --show vllm",
      kOptions,
      run};
  return command;
}

}  // namespace ps::cli
