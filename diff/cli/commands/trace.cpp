// parscope trace MODEL_DIR --engine reference -o DIR
#include <cstdio>

#include "diff/cli/command.h"
#include "diff/cli/engines.h"
#include "diff/run/record.h"

namespace ps::cli {

namespace {

constexpr Option kOptions[] = {
    {"-o", "DIR", "where the trace goes (a new or empty folder)"},
    kEngineOption,
    kDType,
    kThreads,
    kPrompt,
    kTokens,
    kRandom,
    kSeed,
    kSteps,
    kChunk,
    kBeams,
    {"--points", "PATTERN", "record only these points ('*' is a wildcard); may be repeated"},
    {"--gradients", "LOSS",
     "also record grad/NAME of every parameter: next-token or sum\n"
     "(reference only; one fresh pass over the prompt)"},
    kQuiet};

// The gradients go into a step of their own, after the others.
Result<void> record_gradients(Reference& reference, const RunPlan& plan, Loss loss,
                              const std::filesystem::path& dir, TraceManifest manifest) {
  class GradientTap final : public Tap {
   public:
    explicit GradientTap(TraceWriter& writer) : writer_(writer) {}
    bool wants(std::string_view) override { return true; }
    void take(std::string_view point, const TensorView& value) override {
      if (status.ok()) status = writer_.add(point, value);
    }
    Result<void> status;

   private:
    TraceWriter& writer_;
  };
  PS_TRY(TraceWriter writer, TraceWriter::create(dir, std::move(manifest)));
  PS_TRY_VOID(writer.begin_step(TraceStep{}, &plan.prompt));
  GradientTap tap(writer);
  PS_TRY_VOID(reference.gradients(plan.prompt, loss, tap));
  if (!tap.status.ok()) return tap.status.error();
  PS_TRY_VOID(writer.end_step());
  return writer.close();
}

Result<int> run(const Arguments& arguments) {
  if (arguments.positionals().size() != 1 || !arguments.has("-o")) {
    return bad_input("parscope trace", "wrong arguments", "MODEL_DIR and -o DIR",
                     arguments.has("-o") ? "no MODEL_DIR" : "no -o");
  }
  const std::filesystem::path dir = arguments.get("-o");
  std::error_code ec;
  if (std::filesystem::exists(dir, ec) && !std::filesystem::is_empty(dir, ec)) {
    return bad_input(dir.string(), "is not empty; a trace goes into a folder of its own",
                     "a new or empty folder");
  }
  PS_TRY(const Model model, open_model(arguments.positionals()[0]));
  PS_TRY(const EngineChoice choice, engine_choice(arguments, model.config, "reference"));
  PS_TRY(const RunPlan plan, run_plan(arguments, model.config));

  TraceManifest manifest;
  manifest.producer = "parscope " PS_VERSION " reference";
  manifest.model_json = model.config.json;
  manifest.dtype = choice.options.dtype;
  manifest.device = "cpu";

  if (arguments.has("--gradients")) {
    const std::string name = arguments.get("--gradients");
    if (name != "next-token" && name != "sum") {
      return bad_input("--gradients", "unknown loss", "next-token or sum", name);
    }
    ReferenceOptions options;
    static_cast<EngineOptions&>(options) = choice.options;
    PS_TRY(const std::unique_ptr<Reference> reference, open_reference(model, options));
    const Loss loss = name == "sum" ? Loss::kSumOfLogits : Loss::kNextToken;
    PS_TRY_VOID(record_gradients(*reference, plan, loss, dir, std::move(manifest)));
    if (!arguments.has("--quiet")) print(dir.string() + ": one step with gradients\n");
    return 0;
  }

  PS_TRY(const std::unique_ptr<Engine> engine, open_engine(model, choice));
  RecordOptions options;
  options.points = arguments.all("--points");
  Progress progress("tracing");
  options.progress = [&](std::int64_t step, std::int64_t total) { progress.update(step, total); };
  PS_TRY(const Recorded recorded, record(*engine, plan, dir, std::move(manifest), options));
  if (!arguments.has("--quiet")) {
    char text[160];
    std::snprintf(text, sizeof text, ": %lld steps, %lld points, %.1f MB\n",
                  static_cast<long long>(recorded.steps), static_cast<long long>(recorded.points),
                  static_cast<double>(recorded.bytes) / 1e6);
    print(dir.string() + text);
  }
  return 0;
}

}  // namespace

const Command& trace_command() {
  static const Command command{
      "trace",
      "records every named value of a run",
      "trace MODEL_DIR -o DIR [inputs] [engine]",
      "Runs a model and writes a trace: a folder with trace.json and one .safetensors file a "
      "step,\n"
      "with every point under the Hugging Face module path whose output it is.\n\n"
      "  parscope trace fixtures/models/parscale-bytes -o /tmp/t --prompt 'def f(x):' --steps 3\n"
      "  parscope trace MODEL -o /tmp/t --random 4x19 --points 'model.layers.0.*' --points lm_head",
      kOptions,
      run};
  return command;
}

}  // namespace ps::cli
