// parscope probe MODEL_DIR: what a run with these inputs could not show, and inputs that show more.
#include <cstdio>

#include <nlohmann/json.hpp>

#include "core/file.h"
#include "diff/cli/command.h"
#include "diff/cli/engines.h"
#include "diff/cli/output_probe.h"
#include "diff/isolate/lockstep.h"
#include "diff/run/recommend.h"

namespace ps::cli {

namespace {

constexpr Option kOut{"-o", "FILE.json", "write the recommended prompt, for --tokens"};
constexpr Option kOptions[] = {kPrompt, kTokens, kRandom, kSeed,    kSteps, kChunk,
                               kBeams,  kDevice, kDType,  kThreads, kOut,   kJson};

nlohmann::ordered_json prompt_json(const StepInputs& prompt) {
  nlohmann::ordered_json out;
  const auto rows = [&](const std::vector<std::int64_t>& flat) {
    auto all = nlohmann::ordered_json::array();
    for (std::int64_t b = 0; b < prompt.batch; ++b) {
      all.push_back(std::vector<std::int64_t>(flat.begin() + b * prompt.length,
                                              flat.begin() + (b + 1) * prompt.length));
    }
    return all;
  };
  out["input_ids"] = rows(prompt.input_ids);
  if (prompt.attention_mask) out["attention_mask"] = rows(*prompt.attention_mask);
  if (prompt.position_ids) out["position_ids"] = rows(*prompt.position_ids);
  return out;
}

std::string options_text(const RunPlan& plan) {
  return "--steps " + std::to_string(plan.decode_steps) + " --chunk " + std::to_string(plan.chunk) +
         " --beams " + std::to_string(plan.beams);
}

Result<int> run(const Arguments& arguments) {
  if (arguments.positionals().size() != 1) {
    return bad_input("parscope probe", "wrong arguments", "one MODEL_DIR",
                     std::to_string(arguments.positionals().size()));
  }
  if (arguments.has("-o")) PS_TRY_VOID(probe_output(arguments.get("-o")));
  PS_TRY(const Model model, open_model_at(arguments.positionals()[0]));
  PS_TRY(const EngineChoice choice, engine_choice(arguments, model.config, kDefaultCandidate));
  PS_TRY(const std::int64_t seed, arguments.integer("--seed", 1, 0, std::int64_t{1} << 62));
  const Recommended recommended =
      recommended_inputs(model.config, static_cast<std::uint64_t>(seed));
  if (arguments.has("-o")) {
    PS_TRY_VOID(
        write_text(arguments.get("-o"), prompt_json(recommended.plan.prompt).dump() + "\n"));
  }
  const bool given = arguments.has("--prompt") || arguments.has("--tokens") ||
                     arguments.has("--random") || arguments.has("--steps");
  RunPlan plan = recommended.plan;
  if (given) {
    PS_TRY(plan, run_plan(arguments, model.config));
  }
  ReferenceOptions truth;
  truth.dtype = DType::kF64;
  truth.threads = choice.options.threads;
  truth.weights_through = choice.options.dtype;
  PS_TRY(const std::unique_ptr<Engine> candidate, open_engine(model, choice));
  PS_TRY(const std::unique_ptr<Reference> reference, open_reference(model, truth));
  Progress progress("probing");
  LockstepOptions options;
  options.run = choice.options.dtype;
  options.progress = [&](std::int64_t step, std::int64_t steps, std::int64_t op, std::int64_t ops) {
    if (op % 16 == 0) progress.update(step * ops + op, steps * ops);
  };
  PS_TRY(const Report report, lockstep(*candidate, *reference, model.config, plan, options));
  if (report.verdict != Verdict::kEquivalent) {
    std::fprintf(stderr,
                 "parscope probe: this run is not right (parscope check says why), so what it "
                 "cannot show is not known\n");
    return exit_code(report);
  }
  if (arguments.has("--json")) {
    nlohmann::ordered_json out;
    out["power"] = *report.power;
    out["blind_spots"] = nlohmann::ordered_json::array();
    for (const BlindSpot& spot : report.blind_spots) {
      out["blind_spots"].push_back({{"id", spot.id}, {"why", spot.why}});
    }
    out["recommended"] = {{"options", options_text(recommended.plan)},
                          {"reasons", recommended.reasons}};
    out["recommended"]["prompt"] = prompt_json(recommended.plan.prompt);
    print(out.dump(2) + "\n");
    return 0;
  }
  char line[160];
  std::snprintf(line, sizeof line,
                "%s inputs would have shown %.0f%% of the faults that this model can have.\n",
                given ? "These" : "The recommended", 100.0 * *report.power);
  std::string text = line;
  if (!report.blind_spots.empty()) text += "\nThey cannot show:\n";
  for (const BlindSpot& spot : report.blind_spots) {
    std::snprintf(line, sizeof line, "  %-38s ", spot.id.c_str());
    text += line + spot.why + "\n";
  }
  text += "\nRecommended (parscope check takes these when it is given none):\n";
  for (const std::string& reason : recommended.reasons) text += "  - " + reason + "\n";
  text += "  " + options_text(recommended.plan) +
          (arguments.has("-o") ? " --tokens " + arguments.get("-o")
                               : "; -o FILE.json writes the prompt") +
          "\n";
  print(text);
  return 0;
}

}  // namespace

const Command& probe_command() {
  static const Command command{
      "probe",
      "says which faults a run with given inputs could not show",
      "probe MODEL_DIR [inputs] [engine]",
      "An equal result proves little if the inputs could not have shown a fault: without padding\n"
      "nobody sees that padding is ignored, without a decode step nobody sees a wrong cache. This\n"
      "runs the model, replays every fault that it could have on the run's own values, and lists\n"
      "those that would have changed nothing, each with what it takes to see it. Without inputs "
      "it\n"
      "makes some that leave the fewest, and says why each part of them is there.\n\n"
      "  parscope probe MODEL                      the recommended inputs\n"
      "  parscope probe MODEL --prompt 'hello'     what this prompt alone cannot show\n"
      "  parscope probe MODEL -o prompt.json       write the recommended prompt for --tokens",
      kOptions,
      run};
  return command;
}

}  // namespace ps::cli
