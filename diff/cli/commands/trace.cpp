// parscope trace MODEL_DIR --engine model|reference -o DIR
#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "core/points.h"
#include "core/temp_file.h"
#include "diff/align/weight_sums.h"
#include "diff/cli/attention.h"
#include "diff/cli/command.h"
#include "diff/cli/engines.h"
#include "diff/cli/output_probe.h"
#include "diff/cli/packing.h"
#include "diff/cli/ranks.h"
#include "diff/ranks/record_world.h"
#include "diff/run/record.h"
#include "diff/run/record_ranks.h"
#include "diff/shard/rank_engine.h"
#include "diff/shard/rank_model.h"

namespace ps::cli {

namespace {

constexpr Option kOptions[] = {
    {"-o", "DIR", "where the trace goes (a new or empty folder)"},
    kEngineOption,
    kAttention,
    kDevice,
    kDType,
    kThreads,
    kPrompt,
    kTokens,
    kRandom,
    kSeed,
    kSteps,
    kChunk,
    kBeams,
    {"--tp", "N",
     "run as N tensor-parallel ranks, simulated in this process or, under\n"
     "parscope launch, torchrun or mpirun, real ones; a file a step and rank"},
    kMask,
    kCompress,
    {"--points", "PATTERN", "record only these points ('*' is a wildcard); may be repeated"},
    {"--gradients", "LOSS",
     "also record grad/NAME of every parameter, of the loss 'next-token' (mean\n"
     "cross entropy of real next tokens) or 'sum' of all logits, grad/lm_head;\n"
     "of points on the way where --points 'grad/...' asks (reference only)"},
    {"--grad", "", "the same as --gradients next-token"},
    kQuiet};

// Said before the run, not after it.
Result<void> can_take_trace(const std::filesystem::path& dir) {
  namespace fs = std::filesystem;
  const char* const wanted = "a new or empty folder for the trace";
  std::error_code ec;
  if (fs::exists(dir, ec)) {
    if (!fs::is_directory(dir, ec)) return bad_input(dir.string(), "is a file", wanted);
    const bool empty = fs::is_empty(dir, ec);
    if (ec) return bad_input(dir.string(), "cannot be read", wanted, ec.message());
    if (!empty) return bad_input(dir.string(), "is not empty", wanted);
  }
  fs::path there = fs::absolute(dir, ec).lexically_normal();
  while (there.has_relative_path() && !fs::exists(there, ec)) there = there.parent_path();
  if (!fs::is_directory(there, ec)) {
    return bad_input(dir.string(), "cannot be made: " + there.string() + " is a file", wanted);
  }
  return probe_output_dir(dir);
}

// A pattern that no point of this model matches is a slip of the pen.
Result<void> check_patterns(const std::vector<std::string>& patterns, const ModelConfig& config,
                            bool gradients) {
  if (patterns.empty()) return {};
  std::vector<std::string> names;
  if (gradients) {
    for (const WeightSpec& weight : expected_weights(config))
      names.push_back("grad/" + weight.name);
  }
  for (const PointSpec& spec : point_table()) {
    const bool layered = spec.name.find(".N") != std::string_view::npos;
    for (std::int64_t layer = 0; layer < (layered ? config.layers : 1); ++layer) {
      const std::string name = point_name(spec, layered ? layer : -1);
      if (!applies(*find_point(name), config)) continue;
      names.push_back(name);
      if (gradients) names.push_back("grad/" + name);
    }
  }
  for (const std::string& pattern : patterns) {
    const bool found = std::any_of(names.begin(), names.end(),
                                   [&](const std::string& name) { return matches(pattern, name); });
    if (found) continue;
    const std::string guess = closest(pattern, names);
    return bad_input("--points", "'" + pattern + "' is no point of this run" +
                                     (guess.empty() ? "" : "; did you mean '" + guess + "'?"));
  }
  return {};
}

// One step: the prompt, its points, and their gradients.
Result<void> record_gradients(Reference& reference, const RunPlan& plan, Loss loss,
                              const std::filesystem::path& dir, TraceManifest manifest,
                              const RecordOptions& options) {
  class GradientTap final : public Tap {
   public:
    GradientTap(TraceWriter& writer, const RecordOptions& record)
        : writer_(writer), record_(record) {}
    // Gradients of points only where somebody names them; that of the logits always, since it says
    // what the loss was.
    bool wants(std::string_view point) override {
      const bool of_point = point.starts_with("grad/") && find_point(point.substr(5));
      if (of_point && record_.points.empty()) return point == "grad/lm_head";
      return is_recorded(record_, point);
    }
    void take(std::string_view point, const TensorView& value) override {
      if (wants(point) && status.ok()) status = writer_.add(point, value);
    }
    Result<void> status;

   private:
    TraceWriter& writer_;
    const RecordOptions& record_;
  };
  PS_TRY(TraceWriter writer, TraceWriter::create(dir, std::move(manifest), options.packing));
  PS_TRY_VOID(writer.begin_step(TraceStep{}, &plan.prompt));
  GradientTap tap(writer, options);
  PS_TRY_VOID(reference.gradients(plan.prompt, loss, tap));
  if (!tap.status.ok()) return tap.status.error();
  PS_TRY_VOID(writer.end_step());
  return writer.close();
}

// What was asked for, and what ran.
BackendEvent ran_on(const Engine& engine, const EngineChoice& choice) {
  BackendEvent event;
  event.op = "all ops";
  event.requested = event.executed = "libtorch";
  event.device = "cpu";
  const std::optional<CandidateStats> stats = candidate_stats(engine);
  if (!stats) return event;
  event.device = stats->device;
  event.executed = stats->device.starts_with("cuda") ? "cuda" : "host";
  event.requested = choice.device == Device::kAuto   ? "auto"
                    : choice.device == Device::kHost ? "host"
                                                     : "cuda";
  return event;
}

Result<Recorded> record_whole(const Model& model, const EngineChoice& choice, const RunPlan& plan,
                              const std::filesystem::path& dir, const TraceManifest& manifest,
                              const RecordOptions& options) {
  PS_TRY(const std::unique_ptr<Engine> engine, open_engine(model, choice));
  TraceExtras extras;
  extras.backends.push_back(ran_on(*engine, choice));
  extras.weights = weight_sums(*model.checkpoint, model.config, choice.options.threads);
  TraceManifest said = manifest;
  said.device = extras.backends[0].device;
  PS_TRY(const Recorded recorded, record(*engine, plan, dir, std::move(said), options));
  PS_TRY_VOID(write_trace_extras(dir, extras));
  return recorded;
}

Result<Recorded> record_tp(const Arguments& arguments, const Model& model,
                           const EngineChoice& choice, const RunPlan& plan,
                           const TraceManifest& manifest, const RecordOptions& options) {
  PS_TRY(const std::int64_t tp, arguments.integer("--tp", 1, 1, 4096));
  if (!choice.reference) {
    PS_TRY(std::unique_ptr<RankCrew> crew,
           RankCrew::open(model, tp, [&](const Model& local, Collectives& collectives) {
             return open_simulated_rank(local, choice, collectives);
           }));
    ThreadRanks ranks(std::move(crew));
    return record_ranks(ranks, tp, plan, arguments.get("-o"), manifest, options);
  }
  const SourceLookup weights = [&](std::string_view name) { return model.checkpoint->find(name); };
  PS_TRY(const RankModel ranks_of, rank_model(model.config, tp, weights, {}));
  ReferenceOptions reference;
  static_cast<EngineOptions&>(reference) = choice.options;
  PS_TRY(const std::unique_ptr<Ranks> ranks, open_simulated_ranks(ranks_of, reference));
  return record_ranks(*ranks, tp, plan, arguments.get("-o"), manifest, options);
}

void print_recorded(const std::filesystem::path& dir, const Recorded& recorded) {
  char text[160];
  std::snprintf(text, sizeof text, ": %lld steps, %lld points, %.1f MB\n",
                static_cast<long long>(recorded.steps), static_cast<long long>(recorded.points),
                static_cast<double>(recorded.bytes) / 1e6);
  print(dir.string() + text);
}

// `place` and `world`: of a real rank.
Result<int> trace(const Arguments& arguments, const RankPlace* place, World* world) {
  namespace fs = std::filesystem;
  const bool leads = world == nullptr || place->rank == 0;
  const std::string model_dir = arguments.positionals()[0];
  const fs::path dir = arguments.get("-o");
  if (leads) PS_TRY_VOID(can_take_trace(dir));
  PS_TRY(Model dense, open_model_at(model_dir));
  PS_TRY(const Model model, with_attention_asked_for(arguments, std::move(dense)));
  PS_TRY(const EngineChoice choice,
         engine_choice(arguments, model.config, world == nullptr ? "reference" : "model"));
  if (world != nullptr && choice.reference) {
    return bad_input("--engine", "only the model runs on real ranks", "model", "reference");
  }
  PS_TRY(const RunPlan plan, run_plan(arguments, model.config));

  TraceManifest manifest;
  manifest.producer = std::string("parscope " PS_VERSION " ") + std::string(engine_name(choice));
  manifest.model_json = model.config.json;
  manifest.dtype = choice.options.dtype;
  manifest.device = "cpu";

  const bool gradients = arguments.has("--gradients") || arguments.has("--grad");
  RecordOptions options;
  options.points = arguments.all("--points");
  PS_TRY(options.packing, packing_of(arguments));
  PS_TRY_VOID(check_patterns(options.points, model.config, gradients));

  if (gradients) {
    if (!choice.reference) {
      return bad_input("--grad", "the model has no backward pass", "--engine reference");
    }
    for (const char* other : {"--steps", "--chunk", "--beams", "--tp", "--mask"}) {
      if (!arguments.has(other)) continue;
      return bad_input("--gradients", "is one pass over the whole prompt",
                       "no " + std::string(other));
    }
    const std::string name = arguments.get("--gradients", "next-token");
    if (name != "next-token" && name != "sum") {
      return bad_input("--gradients", "unknown loss", "next-token or sum", name);
    }
    ReferenceOptions reference_options;
    static_cast<EngineOptions&>(reference_options) = choice.options;
    PS_TRY(const std::unique_ptr<Reference> reference, open_reference(model, reference_options));
    const Loss loss = name == "sum" ? Loss::kSumOfLogits : Loss::kNextToken;
    PS_TRY_VOID(record_gradients(*reference, plan, loss, dir, std::move(manifest), options));
    if (!arguments.has("--quiet")) print(dir.string() + ": one step with gradients\n");
    return 0;
  }

  if (world != nullptr) {
    PS_TRY_VOID(agree_on_run(*world, model, choice, plan));
    PS_TRY(const std::unique_ptr<Engine> own, open_rank(model, choice, *place, *world));
    PS_TRY(const Recorded recorded,
           record_world(*world, *own, model.config, plan, dir, manifest, options));
    if (leads && !arguments.has("--quiet")) print_recorded(dir, recorded);
    return 0;
  }

  Progress progress("tracing");
  options.progress = [&](std::int64_t step, std::int64_t total) { progress.update(step, total); };
  PS_TRY(const Recorded recorded, arguments.has("--tp")
                                      ? record_tp(arguments, model, choice, plan, manifest, options)
                                      : record_whole(model, choice, plan, dir, manifest, options));
  if (!arguments.has("--quiet")) print_recorded(dir, recorded);
  return 0;
}

Result<int> run(const Arguments& arguments) {
  PS_TRY(const std::string model_dir, only_positional(trace_command(), arguments, "MODEL_DIR"));
  if (arguments.get("-o").empty()) {
    return wrong_usage(trace_command(), "no -o DIR, where the trace goes");
  }
  PS_TRY(const std::optional<RankPlace> place, place_of_run(arguments));
  if (!place) return trace(arguments, nullptr, nullptr);
  return as_rank(*place, [&](World& world) { return trace(arguments, &*place, &world); });
}

}  // namespace

const Command& trace_command() {
  static const Command command{
      "trace",
      "records every named value of a run",
      "trace MODEL_DIR -o DIR [options]",
      "Runs a model and writes a trace: a folder with trace.json and one .safetensors file a "
      "step,\n"
      "with every value under the Hugging Face module path whose output it is.\n\n"
      "  parscope trace fixtures/models/parscale-bytes -o /tmp/t --prompt 'def f(x):' --steps 3\n"
      "  parscope trace MODEL -o /tmp/t --random 4x19 --points 'model.layers.0.*' --points "
      "lm_head\n"
      "  parscope trace MODEL -o /tmp/g --engine reference --grad\n"
      "  parscope launch -n 2 trace MODEL --tp 2 -o /tmp/t     (two real ranks, a file each a "
      "step)",
      kOptions,
      run};
  return command;
}

}  // namespace ps::cli
