#include "diff/cli/engines.h"

#include "diff/run/inputs.h"

namespace ps::cli {

namespace {

Result<StepInputs> prompt_of(const Arguments& arguments, const ModelConfig& config) {
  const int given = (arguments.has("--prompt") ? 1 : 0) + (arguments.has("--tokens") ? 1 : 0) +
                    (arguments.has("--random") ? 1 : 0);
  if (given > 1) {
    return bad_input("inputs", "give one of --prompt, --tokens and --random", "one",
                     std::to_string(given));
  }
  if (arguments.has("--prompt")) return inputs_from_prompt(arguments.get("--prompt"), config);
  if (arguments.has("--tokens")) return inputs_from_file(arguments.get("--tokens"), config);
  const std::string size = arguments.get("--random", "3x13");
  const std::size_t x = size.find('x');
  if (x == std::string::npos) {
    return bad_input("--random", "not a size", "BxS, such as 3x17", size);
  }
  PS_TRY(const std::int64_t batch,
         parse_integer(size.substr(0, x), "--random, rows", 1, std::int64_t{1} << 20));
  PS_TRY(const std::int64_t length,
         parse_integer(size.substr(x + 1), "--random, tokens", 1, std::int64_t{1} << 24));
  PS_TRY(const std::int64_t seed, arguments.integer("--seed", 1, 0, std::int64_t{1} << 62));
  return random_inputs(batch, length, static_cast<std::uint64_t>(seed), config);
}

}  // namespace

Result<EngineChoice> engine_choice(const Arguments& arguments, const ModelConfig& config,
                                   std::string_view default_engine) {
  EngineChoice out;
  const std::string engine = arguments.get("--engine", default_engine);
  if (engine != "reference") {
    return bad_input("--engine", "unknown engine", "reference", engine);
  }
  out.options.dtype = config.dtype;
  if (arguments.has("--dtype")) {
    const std::string name = arguments.get("--dtype");
    std::optional<DType> dtype = dtype_from_short(name);
    if (!dtype) dtype = dtype_from_torch(name);
    const bool known = dtype && (*dtype == DType::kF64 || *dtype == DType::kF32 ||
                                 *dtype == DType::kBF16 || *dtype == DType::kF16);
    if (!known) return bad_input("--dtype", "unknown type", "f64, f32, bf16 or f16", name);
    out.options.dtype = *dtype;
  }
  PS_TRY(const std::int64_t threads, arguments.integer("--threads", 0, 0, 4096));
  out.options.threads = static_cast<int>(threads);
  return out;
}

Result<std::unique_ptr<Engine>> open_engine(const Model& model, const EngineChoice& choice) {
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
  if (plan.prompt.attention_mask && plan.decode_steps > 0) {
    // The last column must be real, or the next token would continue padding.
    for (std::int64_t b = 1; b <= plan.prompt.batch; ++b) {
      if ((*plan.prompt.attention_mask)[static_cast<std::size_t>(b * plan.prompt.length - 1)] !=
          0) {
        continue;
      }
      return bad_input(
          "attention_mask",
          "row " + std::to_string(b - 1) + " ends in padding, so decode steps cannot follow it",
          "padding on the left", "padding on the right");
    }
  }
  return plan;
}

}  // namespace ps::cli
