#include "diff/cli/engines.h"

#include <filesystem>
#include <utility>

#include "diff/cli/run_mask.h"
#include "diff/run/inputs.h"
#include "diff/shard/rank_engine.h"

namespace ps::cli {

namespace {

// "3x17", as rows and tokens.
Result<std::pair<std::int64_t, std::int64_t>> size_of_prompt(const std::string& text) {
  constexpr std::int64_t kMostTokens = std::int64_t{1} << 24;
  const std::size_t x = text.find('x');
  if (x != std::string::npos) {
    const auto rows = parse_integer(text.substr(0, x), "", 1, kMostTokens);
    const auto tokens = parse_integer(text.substr(x + 1), "", 1, kMostTokens);
    if (rows.ok() && tokens.ok() && rows.value() <= kMostTokens / tokens.value()) {
      return std::pair(rows.value(), tokens.value());
    }
  }
  return bad_input(
      "--random", "wrong size",
      "rows x tokens, such as 3x17, at most " + std::to_string(kMostTokens) + " tokens in all",
      "'" + text + "'");
}

Result<StepInputs> prompt_of(const Arguments& arguments, const ModelConfig& config) {
  const int given = (arguments.has("--prompt") ? 1 : 0) + (arguments.has("--tokens") ? 1 : 0) +
                    (arguments.has("--random") ? 1 : 0);
  if (given > 1) {
    return bad_input("--prompt, --tokens, --random", "only one of them can be the prompt", "",
                     std::to_string(given) + " of them");
  }
  if (arguments.has("--prompt")) return inputs_from_prompt(arguments.get("--prompt"), config);
  if (arguments.has("--tokens")) return inputs_from_file(arguments.get("--tokens"), config);
  PS_TRY(const auto size, size_of_prompt(arguments.get("--random", "3x13")));
  const auto [batch, length] = size;
  PS_TRY(const std::int64_t seed, arguments.integer("--seed", 1, 0, std::int64_t{1} << 62));
  return random_inputs(batch, length, static_cast<std::uint64_t>(seed), config);
}

}  // namespace

Result<EngineChoice> engine_choice(const Arguments& arguments, const ModelConfig& config,
                                   std::string_view default_engine) {
  EngineChoice out;
  const std::string engine = arguments.get("--engine", default_engine);
  if (engine != "reference" && engine != "model") {
    return bad_input("--engine", "unknown engine", "model or reference", "'" + engine + "'");
  }
  out.reference = engine == "reference";
  const std::string device = arguments.get("--device", "auto");
  if (device != "auto" && device != "host" && device != "cuda") {
    return bad_input("--device", "unknown device", "cuda, host or auto", "'" + device + "'");
  }
  out.device = device == "cuda" ? Device::kCuda : device == "host" ? Device::kHost : Device::kAuto;
  out.options.dtype = config.dtype;
  if (arguments.has("--dtype")) {
    const std::string name = arguments.get("--dtype");
    std::optional<DType> dtype = dtype_from_short(name);
    if (!dtype) dtype = dtype_from_torch(name);
    const bool known = dtype && (*dtype == DType::kF64 || *dtype == DType::kF32 ||
                                 *dtype == DType::kBF16 || *dtype == DType::kF16);
    if (!known)
      return bad_input("--dtype", "unknown type", "f64, f32, bf16 or f16", "'" + name + "'");
    out.options.dtype = *dtype;
  }
  if (!out.reference && out.options.dtype == DType::kF64) {
    return bad_input("--dtype", "the model runs in shorter types", "f32, bf16 or f16", "f64");
  }
  PS_TRY(const std::int64_t threads, arguments.integer("--threads", 0, 0, 4096));
  out.options.threads = static_cast<int>(threads);
  PS_TRY(out.tp, arguments.integer("--tp", 1, 1, 4096));
  return out;
}

Result<Model> open_model_at(const std::string& dir) {
  namespace fs = std::filesystem;
  std::error_code ec;
  if (!fs::exists(dir, ec)) return bad_input(dir, "does not exist", "a model directory");
  if (!fs::is_directory(dir, ec)) return bad_input(dir, "is a file", "a model directory");
  if (!fs::exists(fs::path(dir) / "config.json", ec) && !ec) {
    return bad_input(dir, "has no config.json", "a model directory");
  }
  return open_model(dir);
}

CandidateOptions candidate_options(const EngineChoice& choice) {
  CandidateOptions options;
  static_cast<EngineOptions&>(options) = choice.options;
  options.device = choice.device;
  return options;
}

std::string_view engine_name(const EngineChoice& choice) {
  return choice.reference ? "reference" : "model";
}

Result<std::unique_ptr<Engine>> open_simulated_rank(const Model& local, const EngineChoice& choice,
                                                    Collectives& collectives) {
  CandidateOptions options = candidate_options(choice);
  options.collectives = &collectives;
  return open_candidate(local, options);
}

Result<std::unique_ptr<Engine>> open_engine(const Model& model, const EngineChoice& choice) {
  if (!choice.reference) {
    if (choice.tp == 1) return open_candidate(model, candidate_options(choice));
    const auto open_rank = [&](const Model& local, Collectives& collectives) {
      return open_simulated_rank(local, choice, collectives);
    };
    PS_TRY(std::unique_ptr<RankEngine> ranks, RankEngine::open(model, choice.tp, open_rank));
    return std::unique_ptr<Engine>(std::move(ranks));
  }
  ReferenceOptions options;
  static_cast<EngineOptions&>(options) = choice.options;
  PS_TRY(std::unique_ptr<Reference> reference, open_reference(model, options));
  return std::unique_ptr<Engine>(std::move(reference));
}

Result<RunPlan> run_plan(const Arguments& arguments, const ModelConfig& config) {
  RunPlan plan;
  PS_TRY(plan.prompt, prompt_of(arguments, config));
  const std::int64_t most = std::int64_t{1} << 24;
  PS_TRY(plan.decode_steps, arguments.integer("--steps", 0, 0, most));
  PS_TRY(plan.chunk, arguments.integer("--chunk", 0, 1, most));
  PS_TRY(plan.beams, arguments.integer("--beams", 1, 1, config.vocab_size));
  if (plan.decode_steps > 0) PS_TRY_VOID(can_be_continued(plan.prompt));
  if (arguments.has("--mask")) {
    PS_TRY(const std::int64_t tp, arguments.integer("--tp", 1, 1, 4096));
    PS_TRY_VOID(use_mask(arguments.get("--mask"), config, tp, plan));
  }
  return plan;
}

Result<void> can_be_continued(const StepInputs& prompt) {
  if (!prompt.attention_mask) return {};
  for (std::int64_t b = 1; b <= prompt.batch; ++b) {
    const auto last = static_cast<std::size_t>(b * prompt.length - 1);
    if ((*prompt.attention_mask)[last] != 0) continue;
    return bad_input(
        "attention_mask",
        "row " + std::to_string(b - 1) + " ends in padding, so no new token can follow it",
        "padding on the left");
  }
  return {};
}

}  // namespace ps::cli
